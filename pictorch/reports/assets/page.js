"use strict";
(() => {
  const D = JSON.parse(document.getElementById("values").textContent);
  const $ = (id) => document.getElementById(id);
  const ROWS = 100, RUNS = 60, DOTS = 40, CURVES = 4, MOST_CURVES = 12, COLUMNS = 4;
  const PALETTE = { light: ["#1f5fbf", "#c8511b", "#17806d", "#8a4fb0", "#a67c00", "#b8336a", "#4f6b2f", "#50606e"],
    dark: ["#7fb0ff", "#f59a63", "#5cc9b3", "#c79bea", "#e0bd55", "#f088b0", "#a5c77c", "#a9b6c2"] };
  const PARTS = { test: "test", val: "validation", train: "training" };
  const DASH = { test: "solid", val: "dotted", train: "dashed" };

  const state = { dataset: D.datasets[0], chosen: new Set(), parts: new Set(), metric: "error", log: true, from: 1, to: 1,
    sort: { key: "mean", down: false }, all: false, runs: RUNS, which: null };

  // Elements, numbers, colours. Text goes in as text, so that no name can be markup.
  function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("--")) node.style.setProperty(key, value);
      else if (key === "background") node.style.background = value;
      else if (typeof value === "function") node.addEventListener(key, value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }
  function svg(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const known = (value) => value !== null && value !== undefined;
  const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits) : "");
  const few = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(4))));
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  function duration(seconds) {
    if (!known(seconds)) return "";
    if (seconds < 60) return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
  }
  function size(bytes) {
    for (const [unit, scale] of [["MB", 1e6], ["kB", 1e3]]) if (bytes >= scale) return `${(bytes / scale).toFixed(1)} ${unit}`;
    return `${bytes} B`;
  }
  const text = (value) => (value === null ? "off" : typeof value === "string" ? value : JSON.stringify(value));
  function colour(name) {
    const probe = h("i", {});
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }
  function isDark() {
    const theme = document.documentElement.dataset.theme;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  const palette = (i) => { const all = PALETTE[isDark() ? "dark" : "light"]; return all[i % all.length]; };

  // Curves: base64 of float32 without its last byte.
  function unpack(packed) {
    const raw = atob(packed), bits = new Uint32Array(raw.length / 3);
    for (let i = 0; i < bits.length; i++) {
      bits[i] = (raw.charCodeAt(3 * i) << 8) | (raw.charCodeAt(3 * i + 1) << 16) | (raw.charCodeAt(3 * i + 2) << 24);
    }
    return new Float32Array(bits.buffer);
  }
  const unpacked = new Map();
  function series(index, key) {
    const name = `${index} ${key}`, curve = D.configurations[index].curve;
    if (!curve || !curve.series[key]) return null;
    if (!unpacked.has(name)) unpacked.set(name, curve.series[key].map(unpack));
    return { epochs: D.axes[curve.axis], values: unpacked.get(name) };
  }

  const here = () => D.configurations.map((c, i) => i).filter((i) => D.configurations[i].dataset === state.dataset);
  const ranked = () => here().filter((i) => D.configurations[i].n > 0);
  const recipes = () => new Set(here().map((i) => D.configurations[i].recipe));
  const settings = (c) => Object.entries(c.varying).map(([key, value]) => `${key}=${value}`).join(" ");
  // The recipe stands in every name only where there are several.
  const title = (i) => { const c = D.configurations[i]; return recipes().size > 1 ? c.configuration : settings(c) || c.recipe; };

  // Charts are drawn when they come into view, and again when what they show has changed.
  const charts = new Map();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "250px" });
  const resized = new ResizeObserver((entries) => {
    for (const entry of entries) { const one = echarts.getInstanceByDom(entry.target); if (one) one.resize(); }
  });
  function chart(node, option) {
    charts.set(node, { option, stale: true });
    seen.unobserve(node);
    seen.observe(node);
  }
  function draw(node) {
    const one = charts.get(node);
    if (!one || !one.stale) return;
    one.stale = false;
    let instance = echarts.getInstanceByDom(node);
    if (!instance) { instance = echarts.init(node, null, { renderer: "canvas" }); resized.observe(node); }
    const option = one.option(instance);
    instance.setOption({ animation: false, backgroundColor: "transparent", ...option }, { notMerge: true });
  }
  function redraw() {
    for (const node of charts.keys()) if (!node.isConnected) forget(node);
    for (const [node, one] of charts) { one.stale = true; seen.unobserve(node); seen.observe(node); }
  }
  function forget(node) {
    const one = echarts.getInstanceByDom(node);
    if (one) one.dispose();
    seen.unobserve(node); resized.unobserve(node); charts.delete(node);
  }
  const font = () => getComputedStyle(document.body).fontFamily;
  const words = (extra) => ({ fontFamily: font(), color: colour("soft"), fontSize: 12, ...extra });
  const tooltip = (extra) => ({ confine: true, backgroundColor: colour("raised"), borderColor: colour("rule"),
    textStyle: { color: colour("ink"), fontFamily: font(), fontSize: 13 }, padding: [8, 12], ...extra });
  const axisStyle = () => ({ nameTextStyle: words(), axisLabel: words(), axisLine: { lineStyle: { color: colour("rule") } },
    axisTick: { lineStyle: { color: colour("rule") } }, splitLine: { lineStyle: { color: colour("rule") } } });

  // Leaderboard
  function columns() {
    const keys = [...new Set(ranked().flatMap((i) => Object.keys(D.configurations[i].varying)))].slice(0, COLUMNS);
    const whole = ranked().every((i) => Object.keys(D.configurations[i].varying).every((key) => keys.includes(key)));
    const named = recipes().size > 1 || !keys.length || !whole;
    const machines = new Set(ranked().map((i) => D.configurations[i].hardware.join("; ")));
    $("same").textContent = [named ? "" : `All are ${[...recipes()][0]}.`, machines.size === 1 ? `Trained on ${[...machines][0]}.` : ""].join(" ").trim();
    return [
      { key: "place", label: "#", number: true, of: (c, place) => place },
      ...(named ? [{ key: "configuration", label: "recipe", of: (c) => c.configuration, name: true }] : []),
      ...keys.map((key) => ({ key, label: key, code: true, of: (c) => (known(c.varying[key]) ? c.varying[key] : null),
        number: ranked().every((i) => typeof D.configurations[i].varying[key] !== "string") })),
      { key: "n", label: "n", number: true, of: (c) => c.n },
      { key: "median", label: "median", number: true, of: (c) => c.median, show: (c) => fixed(c.median) },
      { key: "mean", label: "mean ± sd", number: true, of: (c) => c.mean, strong: true,
        show: (c) => fixed(c.mean) + (known(c.sd) ? ` ± ${fixed(c.sd)}` : "") },
      { key: "low", label: "95% interval", number: true, of: (c) => c.low,
        show: (c) => (known(c.low) ? `${fixed(c.low)} to ${fixed(c.high)}` : "one seed") },
      { key: "dots", label: "seeds", of: (c) => c.sd, show: whisker },
      { key: "train_seconds", label: "time", number: true, of: (c) => c.train_seconds, show: (c) => duration(c.train_seconds) },
      ...(machines.size > 1 ? [{ key: "hardware", label: "hardware", of: (c) => c.hardware.join("; "), soft: true }] : []),
    ];
  }
  // Errors from the lowest to the highest, logarithmic where they differ much; an interval may reach beyond, and is cut.
  function reach(shown) {
    const all = shown.flatMap((i) => D.configurations[i].errors), low = Math.min(...all), high = Math.max(...all), log = low > 0 && high / low > 8;
    const cut = (value) => Math.min(Math.max(value, log ? low / 1.5 : Math.max(0, low - (high - low) / 4)), log ? high * 1.5 : high + (high - low) / 4);
    return { low: cut(-Infinity), high: cut(Infinity), log, cut };
  }
  let scale = (value) => value;
  function setScale() {
    const { low, high, log, cut } = reach(ranked()), f = log ? Math.log : (value) => value, width = f(high) - f(low) || 1;
    scale = (value) => 5 + (140 * (f(cut(value)) - f(low))) / width;
  }
  function whisker(c) {
    const says = `seeds ${c.seeds.join(", ")}: ${c.errors.map((e) => fixed(e)).join(", ")}`;
    const node = svg("svg", { class: "whisker", viewBox: "0 0 150 20", role: "img", "aria-label": says });
    const told = svg("title", {});
    told.textContent = says;
    node.append(told);
    if (known(c.low)) {
      node.append(svg("line", { class: "bar", x1: scale(c.low), x2: scale(c.high), y1: 10, y2: 10 }));
      node.append(svg("line", { class: "tick", x1: scale(c.mean), x2: scale(c.mean), y1: 4, y2: 16 }));
    }
    for (const error of c.errors) node.append(svg("circle", { cx: scale(error), cy: 10, r: 3.2 }));
    return node;
  }
  const matches = (wanted, text_) => wanted.toLowerCase().split(/\s+/).every((word) => text_.toLowerCase().includes(word));
  function board() {
    const all = ranked(), wanted = $("filter").value.trim(), shown = columns();
    const place = new Map(all.map((i, rank) => [i, rank + 1]));
    let rows = all.filter((i) => {
      const c = D.configurations[i];
      return !wanted || matches(wanted, `${c.configuration} ${settings(c)} ${c.hash} ${c.hardware.join(" ")}`);
    });
    const by = shown.find((column) => column.key === state.sort.key) || shown[0], sign = state.sort.down ? -1 : 1;
    const value = (i) => by.of(D.configurations[i], place.get(i));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!known(x) || !known(y)) return known(y) - known(x);
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
    });
    $("count").textContent = wanted ? `${rows.length} of ${plural(all.length, "configuration")}` : plural(all.length, "configuration");
    const some = state.all ? rows : rows.slice(0, ROWS);
    $("all").hidden = some.length === rows.length;
    $("all").textContent = `Show all ${rows.length}`;
    setScale();
    const head = h("thead", {}, h("tr", {}, h("th", { scope: "col", title: "Draw its learning curves" }, "draw"), shown.map((column) => {
      const sorted = column.key === by.key ? (state.sort.down ? "descending" : "ascending") : null;
      const label = column.code ? h("code", {}, column.label) : column.label;
      return h("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": sorted },
        h("button", { type: "button", "data-sort": column.key, click: () => sortBy(column.key) }, label));
    })));
    const listed = new Set(shown.filter((column) => column.code).map((column) => column.key));
    const body = h("tbody", {}, some.map((i) => {
      const c = D.configurations[i];
      const tick = h("input", { type: "checkbox", "aria-label": `draw the curves of ${c.configuration}`, change: (event) => choose(i, event.target.checked) });
      tick.checked = state.chosen.has(i);
      tick.disabled = !c.curve;
      const rest = Object.entries(c.varying).filter(([key]) => !listed.has(key)).map(([key, v]) => `${key}=${v}`);
      return h("tr", { "data-hash": c.hash }, h("td", {}, tick), shown.map((column) => {
        const kind = [column.number && "number", column.strong && "strong", column.soft && "soft", column.name && "name"].filter(Boolean).join(" ");
        if (column.name) return h("td", { class: kind, title: `configuration ${c.hash}` }, c.recipe, rest.length ? h("small", {}, rest.join(" ")) : null);
        const v = column.show ? column.show(c) : column.of(c, place.get(i));
        return h("td", { class: kind || null }, known(v) ? v : "–");
      }));
    }));
    if (!all.length) body.append(h("tr", {}, h("td", { colspan: shown.length + 1, class: "soft" }, "No run of this data set is complete yet.")));
    $("board").replaceChildren(head, body);
  }
  function sortBy(key) {
    state.sort = { key, down: state.sort.key === key ? !state.sort.down : false };
    board();
    document.querySelector(`[data-sort="${CSS.escape(key)}"]`).focus();
  }
  function choose(i, on) {
    if (on) state.chosen.add(i); else state.chosen.delete(i);
    curvesChanged();
  }

  // Learning curves
  const keysOf = () => (state.metric === "lr" ? ["lr"] : [...state.parts].map((part) => `${part}_${state.metric}`));
  const drawn = () => [...state.chosen].slice(0, MOST_CURVES);
  function lastEpoch() {
    return Math.max(1, ...here().map((i) => { const c = D.configurations[i].curve; return c ? D.axes[c.axis].at(-1) : 1; }));
  }
  function partsThere() {
    return Object.keys(PARTS).filter((part) => here().some((i) => { const c = D.configurations[i].curve; return c && (c.series[`${part}_error`] || c.series[`${part}_loss`]); }));
  }
  function curvesChanged() {
    $("legend").replaceChildren(...drawn().map((i, place) => {
      const c = D.configurations[i];
      return h("li", {}, h("span", { class: "swatch", background: palette(place) }),
        h("span", {}, title(i), " ", h("span", { class: "soft" }, c.n ? `n=${c.n}, ${fixed(c.mean)}%` : "unfinished")));
    }), state.chosen.size > MOST_CURVES ? h("li", { class: "soft" }, `the first ${MOST_CURVES} of ${state.chosen.size} are drawn`) : "");
    chart($("curves-chart"), curvesOption);
  }
  function points(one, positive) {
    const found = [];
    one.epochs.forEach((epoch, k) => {
      const v = one.values[0][k];
      if (Number.isFinite(v) && (!positive || v > 0)) found.push([epoch, v, one.values[1] ? one.values[1][k] : v, one.values[2] ? one.values[2][k] : v]);
    });
    return found;
  }
  function curvesOption(instance) {
    const keys = keysOf(), lines = [], bands = [], about = new Map();
    let lowest = Infinity, highest = 0;
    drawn().forEach((i, place) => {
      for (const key of keys) {
        const one = series(i, key);
        if (!one) continue;
        const data = points(one, state.log);
        if (!data.length) continue;
        for (const [, v] of data) { lowest = Math.min(lowest, v); highest = Math.max(highest, v); }
        const part = key.split("_")[0], id = `${i} ${key}`, hue = palette(place);
        about.set(id, { i, part, hue, at: new Map(data.map((p) => [p[0], p])) });
        lines.push({ type: "line", id, name: id, data: data.map((p) => [p[0], p[1]]), showSymbol: data.length < 3, symbolSize: 6, z: 3,
          itemStyle: { color: hue }, lineStyle: { color: hue, width: part === "train" ? 1.3 : 2, type: DASH[part] || "solid" },
          emphasis: { disabled: true } });
        // The range of training errors would hide that of the test errors.
        if (one.values.length > 1 && (part !== "train" || keys.length === 1)) bands.push(band(id, data, hue));
      }
    });
    instance.off("datazoom");
    instance.on("datazoom", () => {
      const zoom = instance.getOption().dataZoom[0];
      state.from = Math.round(zoom.startValue); state.to = Math.round(zoom.endValue);
      $("from").value = state.from; $("to").value = state.to;
    });
    const narrow = instance.getWidth() < 560;
    const style = axisStyle(), base = highest / lowest > 2000 ? 10 : 2;
    const name = { error: "error (%)", loss: "loss", lr: "learning rate" }[state.metric];
    return {
      grid: { left: narrow ? 46 : 62, right: narrow ? 14 : 26, top: 34, bottom: 82 },
      xAxis: { type: "value", name: "epoch", nameLocation: "middle", nameGap: 26, min: 1, max: Math.max(2, lastEpoch()), minInterval: 1, ...style, splitLine: { show: false } },
      yAxis: { type: state.log ? "log" : "value", logBase: base, name, scale: true, ...style, nameTextStyle: words({ align: "left", padding: [0, 0, 4, -34] }),
        axisLabel: words({ formatter: (v) => few(v) }) },
      dataZoom: [
        { type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "shift", moveOnMouseWheel: false, preventDefaultMouseMove: false, startValue: state.from, endValue: state.to },
        { type: "slider", filterMode: "none", height: 20, bottom: 14, startValue: state.from, endValue: state.to, showDataShadow: false, brushSelect: false,
          borderColor: colour("rule"), fillerColor: colour("faint"), backgroundColor: colour("raised"), moveHandleSize: 0,
          handleStyle: { color: colour("raised"), borderColor: colour("soft") }, emphasis: { handleStyle: { color: colour("raised"), borderColor: colour("accent") } }, textStyle: words({ fontSize: 11 }), labelFormatter: (v) => String(Math.round(v)) },
      ],
      tooltip: tooltip({ trigger: "axis", axisPointer: { type: "line", lineStyle: { color: colour("soft") }, snap: true },
        formatter: (found) => curveTip(found.filter((one) => about.has(one.seriesName)), about) }),
      series: [...bands, ...lines],
    };
  }
  function band(id, data, hue) {
    const low = (p) => (state.log ? Math.max(p[2], p[1] / 1e3) : p[2]);
    return { type: "custom", id: `${id} range`, silent: true, clip: true, z: 2, tooltip: { show: false }, encode: { x: 0, y: [1, 2] },
      data: data.map((p) => [p[0], low(p), p[3]]),
      renderItem: (params, api) => {
        if (params.dataIndex !== 0) return undefined;
        const up = data.map((p) => api.coord([p[0], p[3]])), down = data.map((p) => api.coord([p[0], low(p)])).reverse();
        return { type: "polygon", shape: { points: [...up, ...down] }, style: { fill: hue, opacity: 0.14 } };
      } };
  }
  function curveTip(found, about) {
    if (!found.length) return "";
    const said = state.metric === "error" ? fixed : few;
    const rows = found.map((one) => {
      const { i, part, hue, at } = about.get(one.seriesName), p = at.get(one.value[0]) || one.value;
      const range = known(p[2]) && p[2] !== p[3] ? ` (${said(p[2])} to ${said(p[3])})` : "";
      return { value: p[1], node: h("div", {}, h("span", { class: "swatch", background: hue }),
        h("span", {}, title(i), part === "lr" ? "" : `, ${PARTS[part]}`), h("span", {}, h("b", {}, said(p[1])), range)) };
    });
    rows.sort((a, b) => a.value - b.value);
    return h("div", { class: "tip" }, h("b", {}, `epoch ${found[0].value[0]}`), rows.map((row) => row.node));
  }
  function zoomTo(from, to) {
    const last = lastEpoch();
    state.from = Math.min(Math.max(1, Math.round(from) || 1), last); state.to = Math.min(Math.max(state.from, Math.round(to) || last), last);
    $("from").value = state.from; $("to").value = state.to;
    const instance = echarts.getInstanceByDom($("curves-chart"));
    if (instance) instance.dispatchAction({ type: "dataZoom", startValue: state.from, endValue: state.to });
  }
  function curveControls() {
    const there = partsThere(), best = there.includes("test") ? "test" : there.includes("val") ? "val" : "train";
    state.parts = new Set([best, "train"].filter((part) => there.includes(part)));
    $("parts").replaceChildren(...there.map((part) => {
      const box = h("input", { type: "checkbox", value: part, change: (event) => {
        if (event.target.checked) state.parts.add(part); else state.parts.delete(part);
        curvesChanged();
      } });
      box.checked = state.parts.has(part);
      return h("label", {}, box, PARTS[part]);
    }));
    state.from = 1; state.to = lastEpoch();
    $("from").value = 1; $("to").value = state.to;
    $("from").max = $("to").max = state.to;
  }

  // Grids
  function gridSection() {
    for (const node of $("grid-charts").querySelectorAll(".chart")) forget(node);
    const found = D.grids.filter((grid) => grid.dataset === state.dataset);
    $("grids").hidden = !found.length;
    $("grid-charts").replaceChildren(...found.map((grid) => {
      const fixedAt = Object.entries(grid.fixed).map(([key, v]) => `${key}=${v}`).join(" ");
      const node = h("div", { class: "chart", role: "img", "aria-label": `Mean test error over ${grid.x} and ${grid.y}; the leaderboard has the same numbers` });
      chart(node, (instance) => gridOption(grid, instance));
      return h("div", {}, h("h3", {}, grid.recipe, fixedAt ? h("span", { class: "soft" }, ` ${fixedAt}`) : null), node);
    }));
  }
  function gridOption(grid, instance) {
    const sorted = (k) => [...new Set(grid.cells.map((cell) => cell[k]))].sort((a, b) => a - b);
    const xs = sorted(0), ys = sorted(1), means = grid.cells.map((cell) => D.configurations[cell[2]].mean);
    const low = Math.min(...means), high = Math.max(...means), dark = isDark();
    const f = low > 0 && high / low > 8 ? Math.log : (v) => v, width = f(high) - f(low);
    const ramp = dark ? ["#8fc1ff", "#3f6fb5", "#22344f"] : ["#12458f", "#7aa7df", "#eaf1fa"];
    const data = grid.cells.map(([x, y, i]) => {
      const c = D.configurations[i], share = width > 0 ? (f(c.mean) - f(low)) / width : 0;
      const light = dark ? share > 0.35 : share < 0.45;
      return { value: [xs.indexOf(x), ys.indexOf(y), f(c.mean)], i, ink: light ? "#fff" : "#10151c" };
    });
    const style = axisStyle(), tight = instance.getWidth() / xs.length < 62;
    return {
      grid: { left: 72, right: 16, top: 30, bottom: 82 },
      xAxis: { type: "category", data: xs.map(String), name: grid.x, nameLocation: "middle", nameGap: 28, ...style, splitLine: { show: false } },
      yAxis: { type: "category", data: ys.map(String), name: grid.y, ...style, nameTextStyle: words({ align: "left", padding: [0, 0, 0, -60] }), splitLine: { show: false } },
      visualMap: { dimension: 2, min: f(low), max: width > 0 ? f(high) : f(low) + 1e-9, inRange: { color: ramp }, calculable: false, orient: "horizontal", left: "center", bottom: 6, itemHeight: 120, itemWidth: 10,
        textStyle: words(), text: [`${fixed(high)}%`, `${fixed(low)}%`], hoverLink: false },
      tooltip: tooltip({ trigger: "item", formatter: (one) => {
        const c = D.configurations[one.data.i];
        return h("div", { class: "tip" }, h("b", {}, `${fixed(c.mean)}%`), known(c.sd) ? ` ± ${fixed(c.sd)}` : "", `, n=${c.n}`,
          h("div", {}, `${grid.x}=${xs[one.value[0]]}`), h("div", {}, `${grid.y}=${ys[one.value[1]]}`),
          h("div", {}, `seeds ${c.seeds.join(", ")}: ${c.errors.map((e) => fixed(e)).join(", ")}`));
      } }),
      // Not the type "heatmap": ECharts 6.1.0 draws its cells on a canvas of their own, and they are missing in print.
      series: [{ type: "custom", data, encode: { x: 0, y: 1 }, renderItem: (params, api) => {
        const [x, y] = api.coord([api.value(0), api.value(1)]), [w, h] = api.size([1, 1]), one = data[params.dataIndex], c = D.configurations[one.i];
        return { type: "group", children: [
          { type: "rect", shape: { x: x - w / 2 + 1.5, y: y - h / 2 + 1.5, width: w - 3, height: h - 3, r: 4 }, style: { fill: api.visual("color") },
            emphasis: { style: { stroke: colour("ink"), lineWidth: 2 } } },
          { type: "text", silent: true, style: { text: `${fixed(c.mean, tight ? 1 : 2)}\nn=${c.n}`, x, y, align: "center", verticalAlign: "middle", fill: one.ink,
            fontFamily: font(), fontSize: tight ? 10 : 12, lineHeight: tight ? 13 : 16 } }] };
      } }],
    };
  }

  // Seeds
  function spreadSection() {
    const all = ranked(), shown = all.slice(0, DOTS);
    $("spread").hidden = !shown.length;
    $("spread-note").textContent = shown.length < all.length ? `The best ${shown.length} of ${all.length} configurations.` : "";
    $("spread-chart").style.height = `${Math.max(9, 5.6 + 1.75 * shown.length)}rem`;
    const one = echarts.getInstanceByDom($("spread-chart"));
    if (one) one.resize();
    chart($("spread-chart"), (instance) => spreadOption(shown, instance));
  }
  function spreadOption(shown, instance) {
    const width = instance.getWidth(), left = Math.round(Math.min(380, width * 0.42)), hue = colour("accent"), ink = colour("ink"), soft = colour("soft");
    const dots = shown.flatMap((i, y) => D.configurations[i].errors.map((error, k) => ({ value: [error, y], i, k })));
    const { log, cut } = reach(shown), style = axisStyle();
    const bars = shown.map((i, y) => { const c = D.configurations[i]; return [known(c.low) ? cut(c.low) : c.mean, y, c.mean, known(c.high) ? cut(c.high) : c.mean]; });
    return {
      grid: { left, right: 24, top: 12, bottom: 48 },
      xAxis: { type: log ? "log" : "value", logBase: 2, name: "test error (%)", nameLocation: "middle", nameGap: 28, ...style, scale: true, axisLabel: words({ formatter: (v) => few(v), hideOverlap: true }) },
      yAxis: { type: "category", inverse: true, data: shown.map(title), ...style, axisTick: { show: false }, axisLine: { show: false },
        splitLine: { show: false }, axisLabel: words({ color: ink, width: left - 16, overflow: "truncate", interval: 0 }) },
      tooltip: tooltip({ trigger: "item", formatter: (one) => {
        const c = D.configurations[one.data.i];
        return h("div", { class: "tip" }, h("b", {}, `${fixed(c.errors[one.data.k])}%`), `, seed ${c.seeds[one.data.k]}`, h("div", {}, c.configuration),
          h("div", { class: "soft" }, `mean ${fixed(c.mean)}, median ${fixed(c.median)}, n=${c.n}`));
      } }),
      series: [
        { type: "custom", silent: true, tooltip: { show: false }, encode: { x: [0, 3], y: 1 }, data: bars, z: 1, renderItem: (params, api) => {
          const y = api.value(1), [a] = api.coord([api.value(0), y]), [m, at] = api.coord([api.value(2), y]), [b] = api.coord([api.value(3), y]);
          return { type: "group", children: [
            { type: "line", shape: { x1: a, x2: b, y1: at, y2: at }, style: { stroke: soft, lineWidth: 1.5 } },
            { type: "line", shape: { x1: m, x2: m, y1: at - 7, y2: at + 7 }, style: { stroke: ink, lineWidth: 2 } }] };
        } },
        { type: "scatter", data: dots, symbolSize: 9, itemStyle: { color: hue, opacity: 0.65 }, emphasis: { scale: 1.4 }, z: 2 },
      ],
    };
  }

  // Classes and mistakes
  function whichSection() {
    const all = ranked();
    $("which").replaceChildren(...all.map((i) => h("option", { value: i }, `${title(i)}  (${fixed(D.configurations[i].mean)}%)`)));
    state.which = all.length ? all[0] : null;
    classesSection();
  }
  function classesSection() {
    const c = state.which === null ? null : D.configurations[state.which], found = c && c.answers, names = D.classes[state.dataset];
    $("classes").hidden = $("mistakes").hidden = c === null;
    if (!c) return;
    $("matrix").hidden = !found;
    if (!found) $("classes-about").textContent = "What its runs answered cannot be read; see the notes below.";
    else {
      const pooled = `${found.answers.toLocaleString("en")} answers of ${plural(c.n, "run")} together.`;
      $("classes-about").textContent = found.matrix ? `Rows are true classes, columns answers: ${pooled}`
        : `${pooled} The classes with the lowest recall, and the most frequent confusions.`;
      $("matrix").replaceChildren(found.matrix ? matrix(found.matrix, names) : classTables(found));
    }
    mistakesSection(c);
  }
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  function matrix(counts, names) {
    const name = (k) => (names ? names[k] : String(k)), wrong = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => i !== j)));
    const head = h("tr", {}, h("th", { scope: "col" }, "true"), counts.map((_, k) => h("th", { scope: "col" }, name(k))), h("th", { scope: "col", class: "recall" }, "recall"));
    const rows = counts.map((row, i) => {
      const all = sum(row), recall = all ? (100 * row[i]) / all : null;
      return h("tr", {}, h("th", { scope: "row" }, name(i)), row.map((n, j) => {
        const share = i === j ? (all ? (70 * n) / all : 0) : n ? 12 + (68 * n) / wrong : 0;
        return h("td", { class: n ? (i === j ? "cell" : "wrong") : "zero", "--share": `${share.toFixed(1)}%`, title: `${name(i)} answered as ${name(j)}: ${n} of ${all}` }, n ? n.toLocaleString("en") : "·");
      }), h("td", { class: "recall" }, known(recall) ? `${fixed(recall, 1)}%` : "–", h("span", { class: "meter" }, h("i", { "--share": `${recall || 0}%` }))));
    });
    return h("table", { class: "matrix" }, h("thead", {}, head), h("tbody", {}, rows));
  }
  function classTables(found) {
    const percent = (right, all) => `${fixed((100 * right) / all, 1)}%`;
    return h("div", { class: "columns" },
      plainTable(["class", "recall", "right", "answers"], found.recalls.map(([name, right, all]) => [name, percent(right, all), right, all])),
      plainTable(["true class", "answered", "times"], found.confused));
  }
  function plainTable(head, rows) {
    const cell = (v) => h("td", { class: typeof v === "number" || /^[\d.]+%$/.test(v) ? "number" : null }, typeof v === "number" ? v.toLocaleString("en") : v);
    return h("table", {}, h("thead", {}, h("tr", {}, head.map((name, k) => h("th", { scope: "col", class: rows.length && typeof rows[0][k] === "number" ? "number" : null }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))));
  }
  function mistakesSection(c) {
    const found = c.mistakes, box = $("gallery");
    box.className = "";
    if (!found) { $("mistakes-about").textContent = "Its list of mistakes cannot be read; see the notes below."; box.replaceChildren(); return; }
    const run = D.runs[found.run], held = D.pictures[found.album] || {};
    $("mistakes-about").textContent = found.rows.length
      ? `The test images that the run with the median error (seed ${run.seed}) got wrong with the most confidence.${found.why ? ` Pictures: ${found.why}.` : ""}`
      : "This run made no mistake on the test images.";
    if (found.rows.some((row) => held[row[0]])) {
      box.className = "pictures";
      box.replaceChildren(...found.rows.map(([index, label, predicted, probability]) => h("figure", {},
        held[index] ? h("img", { src: `data:image/png;base64,${held[index]}`, alt: `test image ${index}: ${label}, taken for ${predicted}`, loading: "lazy" }) : null,
        h("figcaption", {}, h("b", {}, predicted), ` ${fixed(100 * probability, 1)}%`, h("span", {}, `is ${label} · no. ${index}`)))));
    } else box.replaceChildren(found.rows.length ? h("div", { class: "scroll" }, plainTable(["test image", "is", "answered", "probability"],
      found.rows.map(([index, label, predicted, probability]) => [index, label, predicted, `${fixed(100 * probability, 1)}%`]))) : "");
  }

  // Runs: what is in one is made when it is opened.
  function runsSection() {
    const wanted = $("find").value.trim();
    const found = D.runs.filter((run) => run.dataset === state.dataset && (!wanted || matches(wanted, `${run.place} ${run.recipe} ${run.hash} seed=${run.seed}`)));
    $("run-count").textContent = plural(found.length, "run");
    $("run-list").replaceChildren(...found.slice(0, state.runs).map(runNode));
    $("more").hidden = found.length <= state.runs;
    $("more").textContent = `Show ${Math.min(200, found.length - state.runs)} more of ${found.length}`;
  }
  function runNode(run) {
    const error = run.result ? run.result[D.result_keys.indexOf("test_error")] : null;
    const about = run.complete ? `${fixed(error)}%` : h("span", { class: "state" }, run.result ? `incomplete, ${fixed(error)}%` : `epoch ${run.epochs[0]} of ${run.epochs[1]}`);
    const node = h("details", { class: "run" }, h("summary", {}, h("span", { class: "path" }, run.place), h("span", { class: "soft" }, run.recipe), h("span", { class: "soft" }, `seed ${run.seed}`), h("span", { class: "number" }, about)));
    node.addEventListener("toggle", () => { if (node.open && !node.querySelector(".inner")) node.append(inside(run)); });
    return node;
  }
  function pairs(values, base) {
    return h("table", {}, base ? h("thead", {}, h("tr", {}, ["setting", "here", run_base(base)].map((name) => h("th", { scope: "col" }, name)))) : null,
      h("tbody", {}, Object.entries(values).map(([key, value]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, key)), h("td", { class: "path" }, text(value)),
        base ? h("td", { class: "path soft" }, text(known(base.values[key]) ? base.values[key] : null)) : null))));
  }
  const run_base = (base) => (base.name ? `recipe ${base.name}` : "default");
  function inside(run) {
    const base = D.settings[run.base] || {}, box = h("div", { class: "inner" });
    const result = run.result ? Object.fromEntries(D.result_keys.map((key, k) => [key, run.result[k]]).filter(([, v]) => v !== null)) : null;
    const count = Object.keys(run.settings).length;
    box.append(h("h3", {}, count ? `Configuration ${run.hash}: what differs from its recipe` : `Configuration ${run.hash}: its recipe as it is`));
    if (count) box.append(pairs(run.settings, { name: run.base, values: base }));
    box.append(later("All settings", () => pairs(Object.fromEntries(Object.entries({ ...base, ...run.settings }).filter(([, v]) => v !== null)))));
    if (result) box.append(later("Result", () => pairs(result)));
    box.append(later("Environment", () => pairs(Object.fromEntries(Object.entries({ ...D.environments[0], ...run.environment }).filter(([, v]) => v !== null)))));
    box.append(later("Files", () => h("table", {}, h("tbody", {}, run.files.map(([name, bytes]) => h("tr", {}, h("td", { class: "path" }, name), h("td", { class: "number" }, size(bytes))))))));
    if (run.left_out) box.append(h("p", { class: "state" }, `${plural(run.left_out, "line")} of metrics.jsonl damaged and left out.`));
    return box;
  }
  function later(name, make) {
    const node = h("details", {}, h("summary", {}, name));
    node.addEventListener("toggle", () => { if (node.open && node.children.length === 1) node.append(make()); });
    return node;
  }
  function unfinishedSection() {
    const rows = D.incomplete.filter((run) => run.dataset === state.dataset), parts = [];
    if (rows.length) {
      const node = h("details", {}, h("summary", {}, h("b", {}, `${plural(rows.length, "incomplete run")}`), ", ranked nowhere"));
      node.open = rows.length <= 12;
      node.append(h("div", { class: "scroll" }, plainTable(["run", "recipe", "seed", "why"], rows.slice(0, 200).map((run) => [run.run, run.recipe, run.seed, run.why]))));
      parts.push(node);
    }
    if (D.not_reported.length) parts.push(h("h3", {}, "Not reported"), h("ul", { class: "plain" }, D.not_reported.map((row) => h("li", {}, h("span", { class: "path" }, row.run), `: ${row.reason}`))));
    if (D.notes.length) parts.push(h("h3", {}, "Notes"), h("ul", { class: "plain" }, D.notes.slice(0, 100).map((note) => h("li", {}, note))));
    $("unfinished").replaceChildren(...parts);
  }
  function protocolSection() {
    $("words").replaceChildren(h("ul", { class: "plain" }, D.protocol[state.dataset].map((sentence) => h("li", {}, sentence)),
      h("li", {}, "Of each seed the first finished run counts; a run that is cut short or under way counts for nothing.")));
  }

  function summary() {
    const done = D.runs.filter((run) => run.complete), k = D.result_keys.indexOf("train_seconds");
    const parts = [plural(D.configurations.length, "configuration"), plural(done.length, "complete run")];
    if (D.incomplete.length) parts.push(`${D.incomplete.length} incomplete`);
    if (D.not_reported.length) parts.push(`${D.not_reported.length} not reported`);
    const time = sum(done.map((run) => run.result[k]));
    $("summary").textContent = `${parts.join(", ")}${done.length ? `; ${duration(time)} of training` : ""}.`;
  }
  function show() {
    state.chosen = new Set((ranked().length ? ranked() : here()).filter((i) => D.configurations[i].curve).slice(0, CURVES));
    state.all = false; state.runs = RUNS;
    board(); curveControls(); curvesChanged(); gridSection(); spreadSection(); whichSection(); unfinishedSection(); runsSection(); protocolSection();
    navigation();
  }

  // Navigation, themes, printing
  function navigation() {
    const names = { leaderboard: "Leaderboard", curves: "Curves", grids: "Grids", spread: "Seeds", classes: "Classes", mistakes: "Mistakes", runs: "Runs", protocol: "Protocol" };
    const links = Object.entries(names).filter(([id]) => !$(id).hidden).map(([id, name]) => h("a", { href: `#${id}` }, name));
    const choice = h("select", { id: "dataset", "aria-label": "Data set", change: (event) => { state.dataset = event.target.value; show(); } },
      D.datasets.map((name) => h("option", { value: name, selected: name === state.dataset }, name)));
    $("sections").replaceChildren(...links, h("label", {}, "Data set", D.datasets.length > 1 ? choice : h("b", {}, state.dataset)));
    for (const id of Object.keys(names)) if (!$(id).hidden) reading.observe($(id));
  }
  const reading = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = document.querySelector(`nav a[href="#${entry.target.id}"]`);
      if (link && entry.isIntersecting) {
        for (const other of document.querySelectorAll("nav a[aria-current]")) other.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  const THEMES = ["", "dark", "light"], SAID = { "": "as the system", dark: "dark", light: "light" };
  function theme(name) {
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
    $("theme").textContent = `Theme: ${SAID[name]}`;
    curvesChanged(); redraw();
  }
  let before = "";
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme || "";
    theme("light");
    for (const node of charts.keys()) { draw(node); echarts.getInstanceByDom(node).getZr().flush(); }
  });
  addEventListener("afterprint", () => theme(before));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(document.documentElement.dataset.theme || ""));

  $("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "") + 1) % 3]));
  $("filter").addEventListener("input", board);
  $("all").addEventListener("click", () => { state.all = true; board(); });
  $("metric").addEventListener("change", (event) => { state.metric = event.target.value; curvesChanged(); });
  $("log").addEventListener("change", (event) => { state.log = event.target.checked; curvesChanged(); });
  $("from").addEventListener("change", () => zoomTo($("from").valueAsNumber, state.to));
  $("to").addEventListener("change", () => zoomTo(state.from, $("to").valueAsNumber));
  $("reset").addEventListener("click", () => zoomTo(1, lastEpoch()));
  $("which").addEventListener("change", (event) => { state.which = Number(event.target.value); classesSection(); });
  $("find").addEventListener("input", () => { state.runs = RUNS; runsSection(); });
  $("more").addEventListener("click", () => { state.runs += 200; runsSection(); });
  summary();
  show();
})();
