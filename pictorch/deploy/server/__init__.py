"""`pictorch serve`: a finished run answers over HTTP (docs/serve.md).

A request goes through the rooms of this package in this order:

connection  uvicorn's protocol, with bounds on how many are connected and how long a request's head may take
guard       who may ask, how many at once, how many bytes in what time; security headers; every error is JSON
application the routes, and what OpenAPI says of them
body        bytes -> named images, of the three kinds of body; `fetch` those that are given by address
images      bytes -> pixels, in a bounded pool of threads: allowed formats and sizes only
batching    pixels -> predictions: what arrives while the network computes is answered together
"""
