'use strict';
(() => {
const values = JSON.parse(document.getElementById('values').textContent);
const {card, classes, limits} = values;
const MOST_KEPT = 12, MOST_CHIPS = 300, BARS = 5;
const kept = [];  // images with their answers, the latest first
let current = null;

const at = id => document.getElementById(id);
const make = (tag, name, text) => {
  const one = document.createElement(tag);
  if (name) one.className = name;
  if (text !== undefined) one.textContent = text;
  return one;
};
const whole = number => number.toLocaleString('en');
const megabytes = bytes => `${(bytes / 2 ** 20).toLocaleString('en', {maximumFractionDigits: 1})} MiB`;
const percent = p => `${(100 * p).toFixed(p > .9995 || p < .0995 ? 2 : 1)}%`;

/* ---- an image, from wherever it came ---- */

function take(files) {
  const images = [...files];
  const wrong = images.map(refusal).filter(Boolean);
  const right = images.filter(file => !refusal(file)).slice(0, MOST_KEPT);
  if (wrong.length) tell(wrong[0] + (wrong.length > 1 ? ` So with ${wrong.length - 1} more.` : ''));
  if (!right.length) return;
  if (!wrong.length) tell('');
  const entries = right.map(file => ({file, name: file.name || 'image', url: URL.createObjectURL(file), maps: new Map()}));
  for (const entry of [...entries].reverse()) kept.unshift(entry);
  for (const old of kept.splice(MOST_KEPT)) URL.revokeObjectURL(old.url);
  show(entries[0]);
  // One after another: the server is shared, and each answer shows as soon as it is there.
  entries.reduce((before, entry) => before.then(() => ask(entry)), Promise.resolve());
}

function refusal(file) {
  if (file.type && !file.type.startsWith('image/')) {
    return `${file.name} is no image (${file.type}). Expected ${values.formats.join(', ')}.`;
  }
  if (!file.size) return `${file.name} is empty.`;
  // What surrounds a file in a request takes a few hundred bytes.
  if (file.size > limits.bytes - 2048) {
    return `${file.name} has ${megabytes(file.size)}; this server takes at most ${megabytes(limits.bytes)}.`;
  }
  return '';
}

async function post(path, entry) {
  const form = new FormData();
  form.append('files', entry.file, entry.name);
  let response;
  try {
    response = await fetch(path, {method: 'POST', body: form});
  } catch {
    throw new Error('The server does not answer. Is it still running?');
  }
  const answer = await response.json().catch(() => ({error: `The server answered with status ${response.status}.`}));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function ask(entry) {
  try {
    entry.answer = (await post(`/predict?top_k=${BARS}`, entry)).predictions[0];
    entry.chosen = entry.answer.classes[0];
  } catch (error) {
    entry.error = error.message;
  }
  if (entry === current) {
    show(entry);
    say(entry);
  } else drawStrip();
}

async function explain(entry, name) {
  entry.chosen = name;
  if (!entry.maps.has(name)) {
    try {
      entry.maps.set(name, await post(`/explain?class_index=${classes.indexOf(name)}`, entry));
    } catch (error) {
      entry.maps.set(name, {error: error.message});
    }
  }
  if (entry === current && entry.chosen === name) drawMaps(entry);
}

/* ---- what is shown ---- */

function tell(text) {
  at('message').textContent = text;
  at('message').hidden = !text;
}

function say(entry) {
  const {answer} = entry;
  at('said').textContent = answer ? `${entry.name}: ${answer.classes.map(
    (name, i) => `${name} ${percent(answer.probabilities[i])}`).join(', ')}` : '';
}

function show(entry) {
  const other = current !== entry;
  current = entry;
  if (other) preview(entry);
  document.body.classList.toggle('busy', !entry.answer && !entry.error);
  if (entry.error) tell(entry.error);
  else if (entry.answer) tell('');
  drawTop(entry);
  drawBars(entry);
  drawStrip();
  for (const chip of at('classes').children) chip.classList.toggle('answer', chip.textContent === entry.answer?.classes[0]);
  at('maps').hidden = true;
  if (entry.answer) explain(entry, entry.chosen);
}

function preview(entry) {
  const image = at('preview');
  image.classList.remove('tiny');
  image.hidden = false;
  image.alt = entry.name;
  image.onload = () => image.classList.toggle('tiny', image.naturalWidth < 160);
  image.onerror = () => { image.hidden = true; };  // a kind that the server reads and the browser does not
  image.src = entry.url;
  at('invitation').hidden = at('again').hidden = false;
  at('invitation').hidden = true;
  at('drop').classList.add('full');
}

function drawTop({answer, error}) {
  const top = at('top');
  top.replaceChildren();
  if (answer) top.append(make('span', 'class', answer.classes[0]), make('span', 'sure', percent(answer.probabilities[0])));
  else if (!error) top.append(make('span', 'wait', 'Looking …'));
}

function drawBars({answer, chosen}) {
  const list = at('bars');
  list.classList.toggle('ghost', !answer);
  const rows = answer ? answer.classes.map((name, i) => [name, answer.probabilities[i]])
    : [.62, .4, .26, .16, .09].slice(0, Math.min(BARS, classes.length)).map(p => ['', p]);
  list.setAttribute('aria-hidden', String(!answer));
  rows.forEach(([name, probability], i) => {
    let row = list.children[i];
    const tag = answer ? 'button' : 'div';
    if (!row || row.firstChild.localName !== tag) {
      row = make('li');
      const inner = row.appendChild(make(tag));
      if (tag === 'button') inner.type = 'button';
      const fill = make('span', 'fill');
      fill.style.width = list.children[i]?.querySelector('.fill').style.width ?? '0%';
      inner.append(make('span', 'label'), make('span', 'percent'), make('span', 'track'));
      inner.lastChild.append(fill);
      if (list.children[i]) list.children[i].replaceWith(row); else list.append(row);
      fill.getBoundingClientRect();  // so that the bar grows from where it was
    }
    const inner = row.firstChild;
    inner.querySelector('.label').textContent = name;
    inner.querySelector('.percent').textContent = answer ? percent(probability) : '';
    inner.querySelector('.fill').style.width = `${100 * probability}%`;
    if (tag === 'button') {
      inner.setAttribute('aria-pressed', String(name === chosen));
      inner.onclick = () => choose(name);
    }
  });
  while (list.children.length > rows.length) list.lastChild.remove();
}

function choose(name) {
  for (const row of at('bars').children) {
    row.firstChild.setAttribute('aria-pressed', String(row.querySelector('.label').textContent === name));
  }
  explain(current, name);
}

function drawMaps(entry) {
  const found = entry.maps.get(entry.chosen);
  at('maps').hidden = false;
  at('maps-title').textContent = found.error ? 'No heat map' : `Where it sees “${entry.chosen}”`;
  document.querySelector('.pair').hidden = Boolean(found.error);
  at('maps-hint').textContent = found.error ?? 'Grad-CAM; of a transformer, attention rollout. Another class above shows where the network would find that.';
  if (found.error) return;
  at('seen').src = found.input;
  at('heat').src = found.overlay;
}

function drawStrip() {
  const strip = at('strip');
  strip.hidden = kept.length < 2;
  const focused = [...strip.children].indexOf(document.activeElement);
  strip.replaceChildren(...kept.map(entry => {
    const button = make('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', String(entry === current));
    button.setAttribute('aria-label', entry.answer ? `${entry.name}: ${entry.answer.classes[0]}` : entry.name);
    const image = make('img');
    image.alt = '';
    image.src = entry.url;
    button.append(image);
    button.onclick = () => { show(entry); say(entry); };
    return button;
  }));
  if (focused >= 0) strip.children[focused]?.focus();
}

/* ---- by hand, keyboard, clipboard and camera ---- */

at('drop').onclick = () => at('file').click();
at('camera').hidden = !navigator.maxTouchPoints;
at('camera').onclick = () => at('photo').click();
for (const input of [at('file'), at('photo')]) {
  input.onchange = () => { take(input.files); input.value = ''; };
}
let depth = 0;
const drag = inside => {
  depth = inside;
  document.body.classList.toggle('dragging', depth > 0);
  at('veil').hidden = depth <= 0;
};
addEventListener('dragenter', event => { event.preventDefault(); drag(depth + 1); });
addEventListener('dragleave', () => drag(Math.max(0, depth - 1)));
addEventListener('dragover', event => { event.preventDefault(); event.dataTransfer.dropEffect = 'copy'; });
addEventListener('drop', event => {
  event.preventDefault();
  drag(0);
  if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  else tell('That was an address and not an image: save the image first, or copy and paste it.');
});
addEventListener('paste', event => {
  const files = [...event.clipboardData.items].filter(item => item.kind === 'file').map(item => item.getAsFile());
  if (files.length) take(files);
  else if (event.target.localName !== 'input') tell('The clipboard holds no image.');
});

/* ---- the network, in words ---- */

function fact(term, value, small) {
  if (value === null || value === undefined || value === '') return;
  const box = make('div');
  const told = make('dd', '', String(value));
  if (small) told.append(make('small', '', small));
  box.append(make('dt', '', term), told);
  at('card').append(box);
}

function drawCard() {
  const {network, data, test, training, provenance} = card;
  // A long name breaks where its parts end.
  at('name').replaceChildren(...card.name.split(/(?<=[\/_-])/).flatMap(part => [part, make('wbr')]));
  at('lead').textContent = `${network.model} on ${data.name}: ${whole(network.parameters)} parameters` +
    (test ? `, test error ${test.test_error.toFixed(2)}% of ${whole(test.test_images)} images.` : '.') +
    (provenance.complete === false ? ' The run was cut short.' : '');
  at('takes').textContent = `${values.formats.join(', ')}; up to ${megabytes(limits.bytes)}.`;
  at('size').textContent = `${data.image_size} × ${data.image_size} pixels`;
  at('protocol').textContent = card.protocol;
  fact('Test error', test ? `${test.test_error.toFixed(2)}%` : 'not known',
    test && `of ${whole(test.test_images)} test images, ${test.runs} run; top-5 error ${(100 - test.test_top5).toFixed(2)}%`);
  const options = Object.entries(network.options).map(([key, value]) => `${key} ${value}`).join(', ');
  fact('Network', network.model, options);
  fact('Parameters', whole(network.parameters), network.multiply_adds && `${whole(network.multiply_adds)} multiply-adds an image`);
  fact('Data', data.name, `${data.classes} classes, ${data.channels === 1 ? 'grey' : 'colour'}, ${data.image_size} × ${data.image_size}` +
    (data.official_files ? ', official files' : ''));
  fact('Trained', training.epochs && `${whole(training.epochs)} epoch${training.epochs > 1 ? 's' : ''}`,
    [training.steps && `${whole(training.steps)} updates`, training.precision, training.seed !== null && `seed ${training.seed}`]
      .filter(Boolean).join(', '));
  fact('Run', card.run, [provenance.finished?.slice(0, 10), provenance.commit && `commit ${provenance.commit.slice(0, 10)}`]
    .filter(Boolean).join(', '));
  for (const [aspect, words] of Object.entries(card.protocol_card)) at('aspects').append(make('dt', '', aspect), make('dd', '', words));
  at('protocol-box').hidden = !Object.keys(card.protocol_card).length;
  at('notes').replaceChildren(...card.notes.map(note => make('li', '', note)));
  for (const image of [at('seen'), at('heat')]) image.classList.toggle('smooth', data.image_size > 128);
}

function drawClasses() {
  const wanted = at('filter').value.trim().toLowerCase();
  const found = classes.filter(name => name.toLowerCase().includes(wanted));
  at('classes').replaceChildren(...found.slice(0, MOST_CHIPS).map(
    name => make('li', name === current?.answer?.classes[0] ? 'answer' : '', name)));
  at('more').textContent = found.length > MOST_CHIPS ? `and ${whole(found.length - MOST_CHIPS)} more`
    : found.length ? '' : 'None of its classes is called so.';
}

at('classes-title').textContent = `${whole(classes.length)} classes`;
at('filter-label').hidden = classes.length < 12;
at('filter').oninput = drawClasses;
at('address').textContent = location.origin + '/';
drawCard();
drawClasses();
drawBars({answer: null});
at('top').append(make('span', 'wait', 'The five most likely classes will stand here.'));
})();
