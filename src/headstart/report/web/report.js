// The report draws itself from the JSON in #data. Whatever people wrote (names, labels, notes) goes in as text, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { photos, classes, sprites } = data;
  const unbroken = (words) => words && words.replaceAll(" %", "\u00a0%"); // no line ends before its sign
  const sentences = Object.fromEntries(Object.entries(data.sentences).map(([key, words]) => [key, unbroken(words)]));
  const SPLITS = ["train", "validation", "test"], TEST = 2;
  const MOST_IN_GALLERY = 60, MOST_CLASSES_SHOWN = 30, WORST_CLASSES = 30, MOST_PAIRS = 15, MOST_OF_KIND = 6, MOST_MISTAKES_SHOWN = 12;
  const missing = new Set(data.missing);
  const at = (id) => document.getElementById(id);
  const percent = (share) => (share == null ? "–" : `${fixed(100 * share, 1)}\u00a0%`);
  const number = (n) => Number(n).toLocaleString("en-US");
  const counted = (n, thing) => `${number(n)} ${thing}${n === 1 ? "" : "s"}`;
  const OTHERS = data.is_tuned ? "validation" : "cross-validated"; // what was held out and is no test photo
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  // As Python rounds: what lies in the very middle goes to the even digit, 81.25 to 81.2, where toFixed says 81.3.
  function fixed(value, digits) {
    if (Math.abs(value) < 0.5 / 10 ** digits) value = 0; // never -0.000
    const exact = value.toFixed(20), end = exact.length - 20 + digits;
    return /^50*$/.test(exact.slice(end)) && "02468".includes(exact[end - 1]) ? exact.slice(0, end) : value.toFixed(digits);
  }

  // ---- elements

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value == null || value === false) continue;
      if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
      else if (key === "style") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((c) => c != null));
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const name = (text) => el("bdi", null, text); // isolated: a name written from right to left turns nothing else around
  const drop = (id) => { at(id).remove(); };
  const say = (node, text) => { if (text) node.textContent = text; else node.remove(); };

  // ---- one photo

  function named(label) {
    if (label == null) return "–";
    if (!Array.isArray(label)) return classes[label];
    return label.length ? label.map((i) => classes[i]).join(" | ") : "none";
  }

  const isHeldOut = (i) => photos.prediction[i] != null;
  const isTest = (i) => photos.split[i] === TEST;
  const judgedHow = (i) => (!isHeldOut(i) ? `${SPLITS[photos.split[i]]} photo` : `${isTest(i) ? "test" : OTHERS} photo`);
  const shortName = (i) => photos.name[i].split(/[\\/]/).slice(-1)[0];
  const caption = (i) => [name(shortName(i)), photos.unfamiliarity[i] > 1 ? el("span", { class: "strange" }, ` unfamiliar (${fixed(photos.unfamiliarity[i], 2)})`) : null];

  function inWords(i) {
    const said = isHeldOut(i) ? `, predicted ${named(photos.prediction[i])}, ${percent(photos.probability[i])}` : "";
    return `label ${named(photos.label[i])}${said}; ${judgedHow(i)}, ${shortName(i)}`;
  }

  // A path as part of an URL. Bytes of a name that are no UTF-8 come as lone surrogates, U+DC80 to U+DCFF.
  function encoded(path) {
    return [...path].map((c) => {
      const code = c.codePointAt(0);
      if (code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16)}`;
      if (code >= 0xd800 && code <= 0xdfff) return "%EF%BF%BD";
      return c === "/" ? c : encodeURIComponent(c);
    }).join("");
  }

  function withinFolder(path) {
    const folder = data.folder.replace(/[\\/]$/, "");
    return (folder && path.startsWith(folder) ? path.slice(folder.length) : path).replaceAll("\\", "/").replace(/^\/+/, "");
  }

  function fileUrl(path) {
    const drive = /^[A-Za-z]:[\\/]/.test(path), text = drive ? path.replaceAll("\\", "/") : path;
    if (data.base != null) return `${data.base.replace(/\/$/, "")}/${encoded(withinFolder(path))}`;
    if (drive) return `file:///${text.slice(0, 2)}${encoded(text.slice(2))}`;
    return text.startsWith("/") ? `file://${encoded(text)}` : null;
  }

  // ---- small pictures: sheets become blobs once, and each photo shows its part of one

  const sheetUrls = sprites ? sprites.sheets.map((sheet) => URL.createObjectURL(new Blob([bytes(sheet)], { type: "image/jpeg" }))) : [];
  const jpeg = (content) => `data:image/jpeg;base64,${content}`;

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  }

  function sheetPlace(i) {
    const within = i % sprites.perSheet;
    return { sheet: Math.floor(i / sprites.perSheet), column: within % sprites.columns, row: Math.floor(within / sprites.columns) };
  }

  function paint(node, i, side) {
    const { sheet, column, row } = sheetPlace(i);
    node.style.backgroundImage = `url("${sheetUrls[sheet]}")`;
    node.style.backgroundSize = `calc(${side} * ${sprites.columns}) auto`;
    node.style.backgroundPosition = `calc(${side} * ${-column}) calc(${side} * ${-row})`;
  }

  function smallPicture(i) {
    const canvas = el("canvas", { width: sprites.side, height: sprites.side }), image = new Image();
    const { sheet, column, row } = sheetPlace(i), side = sprites.side;
    image.onload = () => canvas.getContext("2d").drawImage(image, column * side, row * side, side, side, 0, 0, side, side);
    image.src = sheetUrls[sheet];
    return canvas;
  }

  function thumb(i, list, place) {
    const has = sprites && !missing.has(i);
    const kind = isHeldOut(i) && !isTest(i) ? "thumb cv" : "thumb";
    const node = el("button", { type: "button", class: kind, "data-photo": i, "aria-label": inWords(i), title: inWords(i), on: { click: () => showLarge(list, place) } });
    if (has) paint(node, i, "var(--thumb)");
    else node.append(el("span", null, name(shortName(i))));
    return node;
  }

  // Arrow keys go from photo to photo within a gallery.
  function gallery(list, most = MOST_IN_GALLERY, isNamed = false) {
    const node = el("div", { class: "gallery", role: "group", "aria-label": counted(list.length, "photo") });
    const shot = (i, place) => (isNamed ? el("figure", { class: "shot" }, thumb(i, list, place), el("figcaption", null, ...caption(i).filter(Boolean))) : thumb(i, list, place));
    node.append(...list.slice(0, most).map(shot));
    if (list.length > most) {
      const all = el("button", { type: "button" }, `Show all ${number(list.length)}`);
      all.addEventListener("click", () => node.replaceWith(gallery(list, Infinity, isNamed)));
      node.append(all);
    }
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const buttons = [...node.querySelectorAll("button")], next = buttons[buttons.indexOf(document.activeElement) + step];
      if (step) event.preventDefault();
      if (step && next) next.focus();
    });
    return node;
  }

  // ---- the large picture

  const large = at("large");
  let largeList = [], largePlace = 0;

  function showLarge(list, place) {
    [largeList, largePlace] = [list, place];
    drawLarge();
    if (!large.open) large.showModal();
  }

  function largePicture(i) {
    const shown = data.mistakes.find((m) => m.photo === i && m.square);
    const fallback = () => (shown ? el("img", { src: jpeg(shown.square), alt: inWords(i) })
      : sprites && !missing.has(i) ? smallPicture(i) : el("p", { class: "note" }, "There is no picture of this photo here."));
    const url = photos.may_open[i] ? fileUrl(photos.name[i]) : null;
    if (!url) return fallback();
    const image = el("img", { alt: inWords(i) });
    image.addEventListener("error", () => image.replaceWith(fallback()));
    image.src = url;
    return image;
  }

  function drawLarge() {
    const i = largeList[largePlace];
    at("large-title").replaceChildren(name(shortName(i)));
    at("large-picture").replaceChildren(largePicture(i));
    const rows = [["Label", name(named(photos.label[i]))]];
    if (isHeldOut(i)) rows.push(["Prediction", name(named(photos.prediction[i]))], [data.is_many ? "Sureness" : "How sure", percent(photos.probability[i])]);
    rows.push(["Judged as", judgedHow(i)], ["Unfamiliarity (above 1: unfamiliar)", String(photos.unfamiliarity[i] ?? "–")], ["File", name(photos.name[i])]);
    at("large-facts").replaceChildren(...facts(rows));
    at("large-why").replaceChildren(...explained(data.mistakes.find((m) => m.photo === i)));
    at("large-place").textContent = `${number(largePlace + 1)} of ${number(largeList.length)}`;
    at("large-before").disabled = largePlace === 0;
    at("large-next").disabled = largePlace === largeList.length - 1;
  }

  // Of a prediction that is explained: where its evidence lies, and what is most like it.
  function explained(m) {
    if (!m || !m.heat) return [];
    const press = () => {
      const is = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(is));
      at("large-picture").replaceChildren(is ? el("div", { class: "square" }, el("img", { src: jpeg(m.square), alt: inWords(m.photo) }), heatCanvas(m.heat)) : largePicture(m.photo));
    };
    const button = el("button", { type: "button", "aria-pressed": "false", on: { click: press } }, "Show where the evidence lies");
    return [el("div", { class: "bar" }, button), ...nearestPhotos(m)];
  }

  const nearestPhotos = (m) => (m.nearest.length ? [el("p", { class: "tag" }, "Most like it, of what it learnt from:"), gallery(m.nearest), el("span", { class: "tag" }, nearestInWords(m.nearest))] : []);

  function turn(step) {
    if (!largeList[largePlace + step] && largeList[largePlace + step] !== 0) return;
    largePlace += step;
    drawLarge();
  }

  const facts = (rows) => rows.map(([term, value]) => el("div", { class: term === "File" ? "whole" : null }, el("dt", null, term), el("dd", null, value)));

  function setUpLarge() {
    at("large-close").addEventListener("click", () => large.close());
    at("large-before").addEventListener("click", () => turn(-1));
    at("large-next").addEventListener("click", () => turn(1));
    large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
    large.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step && !event.defaultPrevented) { event.preventDefault(); turn(step); }
    });
  }

  // ---- charts: each is drawn for the width that it has, and again when that changes

  const charts = [];

  function chart(node, label, draw, most = 640) {
    const again = () => {
      const width = Math.max(260, Math.min(most, Math.floor(node.clientWidth || 600)));
      if (width === node.drawnWidth) return;
      node.drawnWidth = width;
      const old = node.querySelector(":scope > svg"), next = draw(width);
      fill(next, { role: "img", "aria-label": label }, []);
      if (old) old.replaceWith(next); else node.prepend(next);
    };
    charts.push(again);
    again();
    return node;
  }

  const frame = (width, height) => svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
  const text = (x, y, words, attributes) => svg("text", { x, y, ...attributes }, words);
  const scale = (from, to, start, end) => (v) => start + ((v - from) / (to - from || 1)) * (end - start);

  function ticks(from, to, about = 5) {
    const raw = (to - from) / about || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw);
    const first = Math.ceil(from / step - 1e-9), n = Math.floor((to - first * step) / step + 1e-9);
    return Array.from({ length: n + 1 }, (_, k) => Number(((first + k) * step).toPrecision(10)));
  }

  function intervalChart(width) {
    const { accuracy, interval } = data.evaluation, x = scale(0, 1, 8, width - 8), out = frame(width, 74), y = 30;
    out.append(line(x(0), y, x(1), y, "grid"));
    out.append(svg("rect", { x: x(interval[0]), y: y - 9, width: Math.max(3, x(interval[1]) - x(interval[0])), height: 18, rx: 4, class: "band", style: { opacity: 0.3 } }));
    out.append(line(x(accuracy), y - 15, x(accuracy), y + 15, "a"));
    for (const v of [0, 0.25, 0.5, 0.75, 1]) out.append(line(x(v), y - 4, x(v), y + 4, "axis"), text(x(v), 66, `${100 * v} %`, { "text-anchor": v === 0 ? "start" : v === 1 ? "end" : "middle" }));
    if (data.guess) {
      const share = data.guess[1];
      out.append(line(x(share), y - 15, x(share), y + 15, "guide"));
      out.append(text(x(share) + (share > 0.5 ? -6 : 6), 12, "always the commonest class", { "text-anchor": share > 0.5 ? "end" : "start" }));
    }
    return out;
  }

  // series: [{points: [[x, y, low, high]], kind: a | b, name}]; x on a logarithm where isLog.
  function lineChart({ series, xLabel, yLabel, isShare, isLog, ahead }) {
    return (width) => {
      const height = Math.round(Math.max(220, width * 0.52)), all = series.flatMap((s) => s.points);
      const left = 52, right = width - 14, top = 26, bottom = height - 40;
      const ys = [...all.flatMap((p) => p.slice(1)), ...(ahead ? ahead.interval : [])].filter((v) => v != null);
      const xs = [...all.map((p) => p[0]), ...(ahead ? [ahead.x] : [])], by = isLog ? Math.log10 : (v) => v;
      let [low, high] = [Math.min(...ys), Math.max(...ys)];
      const space = (high - low) * 0.08 || 0.05;
      [low, high] = [Math.max(0, low - space), isShare ? Math.min(1, high + space) : high + space];
      const x = scale(by(Math.min(...xs)), by(Math.max(...xs)), left + 8, right - 8), y = scale(low, high, bottom, top);
      const out = frame(width, height);
      for (const v of ticks(low, high)) out.append(line(left, y(v), right, y(v), "grid"), text(left - 8, y(v) + 4, isShare ? `${Number((100 * v).toFixed(1))} %` : String(v), { "text-anchor": "end" }));
      const marks = isLog ? series[0].points.map((p) => p[0]) : ticks(Math.min(...xs), Math.max(...xs)).filter(Number.isInteger);
      if (ahead) out.append(text(x(by(ahead.x)), bottom + 18, number(ahead.x), { "text-anchor": "middle", class: "ahead" }));
      for (const v of marks) if (!ahead || x(by(ahead.x)) - x(by(v)) > 32) out.append(text(x(by(v)), bottom + 18, number(v), { "text-anchor": "middle" }));
      out.append(line(left, bottom, right, bottom, "axis"), text(2, 12, yLabel, { class: "strong" }), text(right, height - 4, xLabel, { "text-anchor": "end" }));
      series.forEach((s) => out.append(...drawSeries(s, (v) => x(by(v)), y)));
      if (ahead) out.append(...drawAhead(ahead, series[0].points.at(-1), bottom, (v) => x(by(v)), y));
      series.filter((s) => s.name).forEach((s, k) => out.append(...legend(s, left + 110 * k, height - 8)));
      return out;
    };
  }

  function drawSeries({ points, kind }, x, y) {
    const measured = points.filter((p) => p[1] != null), shapes = [];
    if (measured.some((p) => p[2] != null)) {
      const edge = [...measured.map((p) => `${x(p[0])},${y(p[2])}`), ...measured.toReversed().map((p) => `${x(p[0])},${y(p[3])}`)];
      shapes.push(svg("polygon", { points: edge.join(" "), class: "band" }));
    }
    shapes.push(svg("polyline", { points: measured.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), class: kind }));
    if (measured.length <= 15) shapes.push(...measured.map((p) => svg("circle", { cx: x(p[0]), cy: y(p[1]), r: 3.5, class: `dot-${kind}` })));
    return shapes;
  }

  function drawAhead(ahead, last, bottom, x, y) {
    const [low, high] = ahead.interval, edge = [[last[0], last[1]], [ahead.x, low], [ahead.x, high]].map(([a, b]) => `${x(a)},${y(b)}`);
    return [svg("polygon", { points: edge.join(" "), class: "band" }), line(x(ahead.x), y(low), x(ahead.x), y(high), "a"),
      line(x(ahead.x), y(low), x(ahead.x), bottom, "guide"), text(x(ahead.x) - 8, bottom - 8, "forecast (90 %)", { "text-anchor": "end" })];
  }

  const legend = ({ name: words, kind }, start, y) => [line(start, y, start + 24, y, kind), text(start + 31, y + 4, words, {})];

  function reliabilityChart(width) {
    const { bins, bins_before: before } = data.calibration, side = width, out = frame(side, side), pad = 46, end = side - 12;
    const x = scale(0, 1, pad, end), y = scale(0, 1, side - pad, 12), most = Math.max(...bins.map((b) => b.n));
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      out.append(line(x(0), y(v), x(1), y(v), "grid"), text(pad - 8, y(v) + 4, `${100 * v} %`, { "text-anchor": "end" }));
      out.append(text(x(v), side - pad + 18, `${100 * v} %`, { "text-anchor": "middle" }));
    }
    out.append(line(x(0), y(0), x(1), y(1), "guide"), text((x(0) + x(1)) / 2, side - 6, "how sure it is", { "text-anchor": "middle", class: "strong" }));
    out.append(text(x(0) + 8, 24, "how often it is right", { class: "strong" }));
    for (const b of before || []) if (b.n) out.append(svg("circle", { cx: x(b.probability), cy: y(b.accuracy), r: 4.5, class: "dot-b" }));
    const known = bins.filter((b) => b.n);
    for (const b of known) if (b.interval) out.append(line(x(b.probability), y(b.interval[0]), x(b.probability), y(b.interval[1]), "a"));
    for (const b of known) {
      const dot = svg("circle", { cx: x(b.probability), cy: y(b.accuracy), r: 4 + 6 * Math.sqrt(b.n / most), class: "dot-a" });
      dot.append(svg("title", null, `${counted(b.n, "photo")}: ${percent(b.probability)} sure, ${percent(b.accuracy)} right`));
      out.append(dot);
    }
    return out;
  }

  function histogramChart(width) {
    const { counts, edges } = data.familiarity, height = 200, bottom = height - 40, top = 30, out = frame(width, height);
    const x = scale(edges[0], edges.at(-1), 8, width - 8), y = scale(0, Math.max(...counts), bottom, top);
    counts.forEach((n, k) => {
      const kind = edges[k] >= 0.999 ? "fill-b" : "fill", wide = x(edges[k + 1]) - x(edges[k]);
      out.append(svg("rect", { x: x(edges[k]) + 0.75, y: y(n), width: Math.max(1, wide - 1.5), height: bottom - y(n), class: kind, rx: 1.5 }));
    });
    out.append(line(x(edges[0]), bottom, x(edges.at(-1)), bottom, "axis"), line(x(1), top - 14, x(1), bottom, "guide"));
    out.append(text(x(1) - 8, top - 6, "familiar", { "text-anchor": "end" }), text(x(1) + 8, top - 6, "unfamiliar", {}));
    for (const v of [0, 0.5, 1, 1.5]) out.append(text(x(v), bottom + 18, String(v), { "text-anchor": v ? "middle" : "start" }));
    out.append(text(width - 8, bottom + 18, `${edges.at(-1)} or more`, { "text-anchor": "end" }), text(8, height - 4, "unfamiliarity", { class: "strong" }));
    return out;
  }

  // ---- sections

  function drawResult() {
    const e = data.evaluation, isJudged = data.run != null; // a finished run, by other photos
    document.title = `${data.title}: headstart report`;
    at("title").append(name(data.title));
    if (isJudged) at("title").after(el("p", { class: "reading", id: "judged-run" }, "The classifier of the run ", el("b", null, name(data.run)), ", judged by the photos of ", el("b", null, name(data.title)), "."));
    at("when").textContent = data.created ? `${isJudged ? "Evaluated" : "Learnt"} on ${new Date(data.created).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" })}` : "";
    at("accuracy").textContent = percent(e.accuracy);
    at("accuracy-of").textContent = `${data.is_tested ? "of the test photos" : "of the cross-validated photos"} ${data.is_many ? "have every label right" : "labelled rightly"}${data.is_balanced ? `; ${percent(e.balanced_accuracy)} where every class counts alike` : ""}`;
    at("result-sentence").textContent = sentences.result;
    at("result-chance").textContent = sentences.chance;
    say(at("comparison"), sentences.comparison);
    at("verdict").textContent = sentences.verdict;
    chart(at("interval"), sentences.chance, intervalChart, 860).append(el("figcaption", null, "The line is what was measured, the band its 95 % interval."));
    const used = isJudged ? [["Left out", number(data.images.skipped || 0)]]
      : [["Learnt from", number((data.images.train || 0) + (data.images.validation || 0))], ["Tested with", number(data.images.test || 0)]];
    const rows = [["Photos", number(data.images.used)], ...used, ["Classes", number(classes.length)]];
    if (e.top5 != null) rows.push(["Right class among the first five", percent(e.top5)]);
    if (e.mean_average_precision != null) rows.push(["Mean average precision", percent(e.mean_average_precision)], ["F1 of all decisions", percent(e.f1_micro)]);
    at("facts").append(...facts(rows));
    if (isJudged && data.notes.length) at("facts").after(el("ul", { class: "note", id: "first-notes" }, ...data.notes.map((n) => el("li", null, n))));
  }

  function drawToDo() {
    const sections = data.to_do.filter(([section]) => at(section));
    at("todo-list").append(...sections.map(([section, words]) => el("li", null, `${unbroken(words)} `, el("a", { href: `#${section}` }, "Show me"))));
    if (!sections.length) at("todo-list").replaceWith(el("p", { class: "reading" }, data.mistakes.length ? "Nothing stands out. Have a look at the worst mistakes anyway: they say more than any number." : "Nothing stands out."));
  }

  // Sortable by any column; of many classes the worst are shown first.
  const meter = (share) => el("span", { class: "meter", "aria-hidden": "true" }, el("i", { style: { width: `${100 * (share || 0)}%` } }));

  function drawScores() {
    const several = data.evaluation.classes.some((c) => c.threshold != null);
    const columns = [["Class", (c) => c.label], ["Precision", (c) => c.precision, percent], ["Recall", (c) => c.recall, percent], ["F1", (c) => c.f1, percent],
      ...(several ? [["Average precision", (c) => c.average_precision, percent], ["Given from", (c) => c.threshold, percent]] : []),
      ["Judged on", (c) => c.support, number], [SPARE, (c) => c.all, number]];
    const rows = data.evaluation.classes.map((c, i) => ({ ...c, all: data.of_class[i] ?? 0, place: i }));
    const table = at("scores"), most = { shown: rows.length > 60 ? 30 : rows.length };
    const state = rows.length > 60 ? { column: 3, up: true } : { column: -1, up: true };
    const draw = () => drawScoreRows(table, columns, rows, state, most.shown);
    table.append(el("thead", null, el("tr", null, ...columns.map(([title], k) => scoreHeading(title, k, state, draw)))), el("tbody"));
    draw();
    const more = document.querySelector("#classes .more");
    if (most.shown === rows.length) { more.remove(); return; }
    const all = el("button", { type: "button" }, `Show all ${number(rows.length)} classes`);
    all.addEventListener("click", () => { most.shown = rows.length; draw(); more.remove(); });
    more.append(all);
  }

  const SPARE = "All photos"; // left out where there is little room

  function scoreHeading(title, k, state, draw) {
    const press = () => { state.up = state.column === k ? !state.up : k <= 3; state.column = k; draw(); };
    return el("th", { scope: "col", class: title === SPARE ? "spare" : null }, el("button", { type: "button", on: { click: press } }, title));
  }

  function drawScoreRows(table, columns, rows, state, shown) {
    const value = state.column < 0 ? (c) => c.place : columns[state.column][1];
    const order = (a, b) => {
      const [va, vb] = [value(a), value(b)];
      if (va == null || vb == null) return (va == null) - (vb == null);
      return (state.up ? 1 : -1) * (typeof va === "string" ? va.localeCompare(vb) : va - vb);
    };
    const cells = (c) => columns.map(([title, of, format], k) => (k === 0 ? el("th", { scope: "row", title: c.label }, name(c.label))
      : el("td", { class: title === SPARE ? "spare" : null }, k <= 3 ? meter(of(c)) : null, el("span", { class: "n" }, format(of(c))))));
    table.tBodies[0].replaceChildren(...[...rows].sort(order).slice(0, shown).map((c) => el("tr", null, ...cells(c))));
    [...table.tHead.rows[0].cells].forEach((th, k) => {
      if (k === state.column) th.setAttribute("aria-sort", state.up ? "ascending" : "descending"); else th.removeAttribute("aria-sort");
    });
  }

  // ---- what is taken for what: a matrix whose cells show their photos

  const OUTCOMES = ["Told rightly", "Missed", "Given wrongly"];
  const hasLabel = (label, i) => Array.isArray(label) && label.includes(i);
  let counting = data.cells.test.length ? "test" : "all";

  function photosOf(row, column) {
    return photos.label.map((_, i) => i).filter((i) => {
      if (!isHeldOut(i) || (counting === "test" && !isTest(i))) return false;
      if (!data.is_many) return photos.label[i] === row && photos.prediction[i] === column;
      const [has, said] = [hasLabel(photos.label[i], row), hasLabel(photos.prediction[i], row)];
      return [has && said, has && !said, !has && said][column];
    });
  }

  const isWrongCell = (row, column) => (data.is_many ? column > 0 : row !== column);

  function worstClasses(cells) {
    if (classes.length <= MOST_CLASSES_SHOWN) return classes.map((_, i) => i);
    const shown = new Set(); // of the most confused pairs, so that their cells are in it
    for (const [i, j] of wrongCells(cells)) if (shown.size < WORST_CLASSES) { shown.add(i); if (!data.is_many) shown.add(j); }
    return [...shown].slice(0, WORST_CLASSES).sort((a, b) => a - b);
  }

  function drawConfusion() {
    const hasTest = data.cells.test.length > 0, hasOthers = sum(data.cells.all.map((c) => c[2])) > sum(data.cells.test.map((c) => c[2]));
    if (!data.cells.all.length) { drop("confusion"); return; }
    const choices = [["test", "Test photos"], ["all", `Test and ${OTHERS} photos`]];
    const buttons = choices.map(([key, words]) => el("button", { type: "button", "data-count": key, on: { click: () => choose(key) } }, words));
    const choose = (key) => {
      counting = key;
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.count === key)));
      const reading = sentences[`confusion_${key}`];
      at("matrix-reading").textContent = reading || "";
      at("matrix-reading").hidden = !reading;
      at("matrix-note").textContent = countingInWords(hasTest).replace(/^./, (c) => c.toUpperCase());
      at("cell").replaceChildren();
      drawMatrix();
      drawPairs();
    };
    if (hasTest && hasOthers) at("matrix-switch").append(...buttons); else at("matrix-switch").remove();
    at("matrix-how").textContent = data.is_many
      ? "A row is a label. Missed: the photo has it, the classifier did not say so. Given wrongly: the other way round. Press a cell to see its photos."
      : "A row is what a photo is, a column what the classifier took it for; right answers lie on the diagonal. Press a cell to see its photos; arrow keys go from cell to cell.";
    choose(counting);
  }

  function countingInWords(hasTest) {
    const n = sum(data.cells[counting].map((c) => c[2])), wholes = data.is_many ? "" : `${counted(n, "photo")}: `;
    const ringed = hasTest ? `; the ${OTHERS} ones are marked with a ring` : "";
    const other = data.n_right === data.evaluation.n_correct ? "The result at the top is theirs." : `The fit that these counts are of got ${number(data.n_right)} right, the one of the result at the top ${number(data.evaluation.n_correct)}.`;
    if (counting === "test") return `${wholes}test photos only, which the classifier never saw. ${other}`;
    const rest = data.is_tuned
      ? "validation photos, which made the choices, so that they flatter"
      : "cross-validated photos, each judged by a fit that had not seen it";
    return hasTest ? `${wholes}test photos, and ${rest}${ringed}.` : `${wholes}${rest}.`;
  }

  function drawMatrix() {
    const cells = data.cells[counting], shown = worstClasses(cells), many = shown.length > 8;
    const columns = data.is_many ? OUTCOMES.map((title, j) => [j, title]) : shown.map((j) => [j, classes[j]]);
    const n = new Map(cells.map(([i, j, count]) => [i * 1e6 + j, count]));
    const of = (i, j) => n.get(i * 1e6 + j) || 0;
    const heading = ([, title]) => el("th", { scope: "col", title }, el("span", null, name(title)));
    const table = el("table", { class: many && !data.is_many ? "matrix many" : data.is_many ? "matrix outcomes" : "matrix" },
      el("thead", null, el("tr", null, el("th", { class: "corner" }, data.is_many ? "label ↓" : "label ↓  taken for →"), ...columns.map(heading))));
    const most = { right: 1, wrong: 1 };
    for (const i of shown) for (const [j] of columns) { const kind = isWrongCell(i, j) ? "wrong" : "right"; most[kind] = Math.max(most[kind], of(i, j)); }
    const row = (i) => el("tr", null, el("th", { scope: "row", title: classes[i] }, name(classes[i])), ...columns.map(([j, title]) => el("td", null, cell(i, j, title, of(i, j), most))));
    table.append(el("tbody", null, ...shown.map(row)));
    table.addEventListener("keydown", moveInMatrix);
    const cut = classes.length > shown.length ? el("p", { class: "note" }, `Of ${number(classes.length)} classes, the ${shown.length} that are confused most.`) : null;
    at("matrix").replaceChildren(...[cut, table].filter(Boolean));
  }

  function cell(i, j, title, n, most) {
    if (!n) return el("span", { "aria-hidden": "true" }, "·");
    const kind = isWrongCell(i, j) ? "wrong" : "right", depth = 0.14 + 0.56 * Math.sqrt(n / most[kind]);
    const words = data.is_many ? `${classes[i]}, ${title}: ${counted(n, "photo")}` : `${classes[i]} taken for ${classes[j]}: ${counted(n, "photo")}`;
    const node = el("button", { type: "button", class: kind, "data-cell": `${i},${j}`, "aria-label": words, title: words, "aria-expanded": "false", "aria-controls": "cell", style: { "--depth": depth.toFixed(2) } }, number(n));
    node.addEventListener("click", () => showCell(i, j, n, node));
    return node;
  }

  function moveInMatrix(event) {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
    const from = event.target.closest("td");
    if (!from || (!down && !right)) return;
    event.preventDefault();
    const rows = [...from.closest("tbody").rows];
    let [r, c] = [rows.indexOf(from.parentNode) + down, from.cellIndex + right];
    for (; rows[r] && rows[r].cells[c]; r += down, c += right) {
      const button = rows[r].cells[c].querySelector("button");
      if (button) { button.focus(); return; }
    }
  }

  function showCell(i, j, n, from) {
    for (const b of document.querySelectorAll("#confusion [aria-expanded]")) b.setAttribute("aria-expanded", String(b === from));
    const members = photosOf(i, j), panel = at("cell");
    const title = data.is_many ? el("h3", null, name(classes[i]), `: ${OUTCOMES[j].toLowerCase()}`)
      : i === j ? el("h3", null, name(classes[i]), ", labelled correctly") : el("h3", null, name(classes[i]), " taken for ", name(classes[j]));
    const sampled = members.length < n ? `; ${number(members.length)} of them are on this page` : "";
    panel.replaceChildren(title, el("p", { class: "note" }, `${counted(n, "photo")}${sampled}.`));
    for (const [words, list] of [["Test photos", members.filter(isTest)], [`${OTHERS.replace(/^./, (c) => c.toUpperCase())} photos`, members.filter((p) => !isTest(p))]]) {
      if (list.length) panel.append(el("h4", null, `${words} (${number(list.length)})`), gallery(surestFirst(list)));
    }
    panel.classList.remove("flash");
    void panel.offsetWidth; // the animation begins anew
    panel.classList.add("flash");
  }

  const surestFirst = (list) => [...list].sort((a, b) => photos.probability[b] - photos.probability[a]);

  const wrongCells = (cells) => cells.filter(([i, j]) => isWrongCell(i, j)).sort((a, b) => b[2] - a[2]);

  function drawPairs() {
    const wrong = wrongCells(data.cells[counting]);
    if (classes.length <= 12 || !wrong.length) { at("pairs").replaceChildren(); return; }
    const row = ([i, j, n]) => {
      const node = el("button", { type: "button", "data-pair": `${i},${j}`, "aria-expanded": "false", "aria-controls": "cell" }, counted(n, "photo"));
      node.addEventListener("click", () => { showCell(i, j, n, node); at("cell").scrollIntoView({ block: "nearest" }); });
      const words = data.is_many ? [name(classes[i]), ` ${OUTCOMES[j].toLowerCase()}`] : [name(classes[i]), " taken for ", name(classes[j])];
      return el("tr", null, el("td", { class: "left" }, ...words), el("td", null, node));
    };
    at("pairs").replaceChildren(el("h3", null, "Most confused"), el("table", { class: "plain" }, el("tbody", null, ...wrong.slice(0, MOST_PAIRS).map(row))));
  }

  // ---- the worst mistakes

  function drawMistakes() {
    const list = data.mistakes.map((m) => m.photo), hasHeat = data.mistakes.some((m) => m.heat);
    if (!list.length) { drop("mistakes"); return; }
    const shown = list.filter((i) => photos.is_right[i] === false).length, of = counted(data.n_mistakes, "photo");
    const kinds = [data.cells.test.length ? "test" : null, photos.split.some((_, i) => isHeldOut(i) && !isTest(i)) ? OTHERS : null].filter(Boolean).join(" and ");
    at("mistakes-reading").textContent = !shown ? `None of the ${kinds} photos is labelled wrongly; these answers are explained all the same.` : `Of the ${kinds} photos it was wrong about ${of}; ${shown < data.n_mistakes ? `these are the ${number(shown)} where it was surest of the wrong answer` : "where it was surest comes first"}. Is it really the classifier that is wrong, or the label?`;
    if (hasHeat) {
      const pressed = (is) => { button.setAttribute("aria-pressed", String(is)); at("mistake-cards").classList.toggle("no-heat", !is); };
      const button = el("button", { type: "button", on: { click: () => pressed(button.getAttribute("aria-pressed") !== "true") } }, "Show where the evidence lies");
      at("heat-switch").append(button);
      pressed(true);
      at("mistakes-reading").after(el("p", { class: "how" }, "What stays bright is where the evidence for its answer lies; the rest is darkened."));
    } else at("heat-switch").remove();
    const cards = data.mistakes.map((m, place) => mistakeCard(m, list, place)), more = document.querySelector("#mistakes .more");
    at("mistake-cards").append(...cards.slice(0, MOST_MISTAKES_SHOWN));
    if (cards.length <= MOST_MISTAKES_SHOWN) { more.remove(); return; }
    more.append(el("button", { type: "button", on: { click: () => { at("mistake-cards").append(...cards.slice(MOST_MISTAKES_SHOWN)); more.remove(); } } }, `Show all ${cards.length}`));
  }

  function mistakeCard(m, list, place) {
    const i = m.photo, photo = el("button", { type: "button", class: "photo", "aria-label": `${inWords(i)}: show it large`, on: { click: () => showLarge(list, place) } });
    if (m.square) photo.append(el("img", { src: jpeg(m.square), alt: "" }));
    else if (sprites && !missing.has(i)) photo.append(smallPicture(i));
    else fill(photo, { class: "photo bare" }, [name(shortName(i))]);
    if (m.heat) photo.append(heatCanvas(m.heat));
    const verdict = isHeldOut(i) ? [el("b", { class: photos.is_right[i] ? "right-text" : "wrong-text" }, name(named(photos.prediction[i]))), ` ${percent(photos.probability[i])}`] : ["not held out"];
    const card = el("article", { class: "mistake" }, photo, el("div", { class: "file" }, ...caption(i).filter(Boolean)), el("p", null, "It said ", ...verdict, el("br"), "The label is ", el("b", null, name(named(photos.label[i])))),
      el("span", { class: "tag" }, judgedHow(i)));
    card.append(...nearestPhotos(m));
    return card;
  }

  function nearestInWords(list) {
    const n = new Map();
    for (const i of list) n.set(named(photos.label[i]), (n.get(named(photos.label[i])) || 0) + 1);
    return [...n].sort((a, b) => b[1] - a[1]).map(([words, many]) => `${many} × \u2068${words}\u2069`).join(", ");
  }

  // Darkness where there is no evidence: it needs no colour, and so hides none.
  function heatCanvas([rows, columns, content]) {
    const heat = bytes(content), small = el("canvas", { width: columns, height: rows }), image = new ImageData(columns, rows);
    heat.forEach((v, k) => image.data.set([10, 14, 18, Math.round(0.72 * 255 * (1 - Math.sqrt(v / 255)))], 4 * k));
    small.getContext("2d").putImageData(image, 0, 0);
    const canvas = el("canvas", { class: "heat", width: 256, height: 256, "aria-hidden": "true" }), context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, 256, 256);
    return canvas;
  }

  // ---- sure, familiar

  function drawCalibration() {
    const c = data.calibration;
    if (!c || !c.bins || !c.bins.length) { drop("calibration"); return; }
    const key = c.bins_before && c.bins_before.length ? "Filled dots: as it is now, the larger the more photos. Rings: before it was corrected." : "The larger the dot, the more photos.";
    chart(at("reliability"), sentences.calibration || "how sure it is against how often it is right", reliabilityChart, 420).append(el("figcaption", null, key));
  }

  function drawUnfamiliar() {
    const u = data.unfamiliar || {}, f = data.familiarity;
    if (!data.unfamiliar && !f) { drop("unfamiliar"); return; }
    if (f) {
      const words = `${counted(f.beyond, "photo")} of ${data.run == null ? "its own" : "these"} ${number(f.n)} ${f.beyond === 1 ? "lies" : "lie"} beyond the line at 1, from which on a photo counts as unfamiliar.`;
      chart(at("familiarity"), words, histogramChart, 760).append(el("figcaption", null, words));
    } else drop("familiarity");
    drawLeftOut(u.left_out || []);
    drawProbes(u.probes || []);
  }

  function drawLeftOut(rows) {
    if (!rows.length) { drop("left-out"); return; }
    const hasMost = rows.some((r) => r.auroc_max_probability != null);
    const heads = ["Class left out", "Noticed as unfamiliar", "Told apart (unfamiliarity)", ...(hasMost ? ["Told apart (how sure)"] : []), "Photos"];
    const body = [...rows].sort((a, b) => (a.flagged ?? 0) - (b.flagged ?? 0)).map((r) => el("tr", null, el("th", { scope: "row" }, name(r.label)), el("td", null, meter(r.flagged), el("span", { class: "n" }, percent(r.flagged))),
      el("td", null, percent(r.auroc)), hasMost ? el("td", null, percent(r.auroc_max_probability)) : null, el("td", null, number(r.n))));
    const shown = body.slice(0, MOST_CLASSES_SHOWN);
    at("left-out").append(el("h3", null, "A trial: one class at a time was kept from it"),
      el("p", { class: "note" }, "Its photos were then shown as something new. Told apart: of a new photo and one of its own, drawn at random, how often the new one looks stranger (AUROC, the area under the ROC curve); 50 % would be guessing."),
      hasMost ? el("p", { class: "note" }, "The last of these columns goes by the highest probability alone, for comparison. Where the new photos are much like its own, it may do as well; but pictures of something else altogether often get a high probability, so that unfamiliarity is the one to go by.") : "",
      el("div", { class: "scroll" }, el("table", { class: "plain" }, el("thead", null, el("tr", null, ...heads.map((h) => el("th", { scope: "col" }, h)))), el("tbody", null, ...shown))),
      rows.length > shown.length ? el("p", { class: "note" }, `The ${shown.length} that were noticed least, of ${number(rows.length)}.`) : "");
  }

  function drawProbes(rows) {
    if (!rows.length) { drop("probes"); return; }
    const probe = (r, k) => el("figure", null, data.probes[k] ? el("img", { src: jpeg(data.probes[k]), alt: r.name }) : null,
      el("figcaption", null, el("b", null, name(r.name)), el("br"), `unfamiliarity ${fixed(Number(r.unfamiliarity), 2)}: `,
        el("span", { class: r.unfamiliarity > 1 ? "right-text" : "wrong-text" }, r.unfamiliarity > 1 ? "noticed" : "not noticed"), el("br"), "it would say ", name(r.prediction), ` ${percent(r.probability)}`));
    at("probes").append(el("h3", null, "Pictures of something else altogether"), el("div", { class: "probes" }, ...rows.map(probe)));
  }

  // ---- issues

  function drawIssues() {
    const total = sum(data.issues.map((k) => k.n));
    if (!total) { drop("issues"); return; }
    at("issues-reading").textContent = `${counted(total, "issue")} of ${counted(data.issues.length, "kind")}, the worst of each first. None has been mended: you know your photos better.`;
    const blocks = data.issues.map(issueBlock), filters = [["All", null], ...data.issues.map((k) => [k.title, k.kind])];
    const press = (kind) => {
      buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(filters[k][1] === kind)));
      blocks.forEach((block, k) => { block.hidden = kind !== null && data.issues[k].kind !== kind; });
    };
    const buttons = filters.map(([words, kind], k) => el("button", { type: "button", on: { click: () => press(kind) } }, name(words), k ? ` ${number(data.issues[k - 1].n)}` : ` ${number(total)}`));
    at("issue-kinds").append(...buttons);
    at("issue-list").append(...blocks);
    press(null);
  }

  function issueBlock({ kind, title, meaning, n, found }) {
    const block = el("div", { "data-kind": kind }, el("h3", null, name(title), el("span", { class: "quiet" }, ` ${number(n)}`)), meaning ? el("p", { class: "note" }, meaning) : null, ...found.slice(0, MOST_OF_KIND).map(issueRow));
    if (found.length <= MOST_OF_KIND) return block;
    const more = el("p", { class: "more" }, el("button", { type: "button" }, `Show all ${number(found.length)}${found.length < n ? ` of ${number(n)} that fit here` : ""}`));
    more.firstChild.addEventListener("click", () => { more.replaceWith(...found.slice(MOST_OF_KIND).map(issueRow)); });
    block.append(more);
    return block;
  }

  function issueRow(issue) {
    const words = el("div", null, el("p", null, issue.sentence || ""));
    if (issue.label && issue.suggested_label) words.append(el("p", { class: "note" }, "Label ", name(issue.label), "; perhaps ", name(issue.suggested_label)));
    if (issue.suggestion) words.append(el("p", { class: "note" }, issue.suggestion));
    if (!issue.photos.length) words.append(el("p", { class: "note" }, ...issue.names.flatMap((path, k) => [k ? ", " : null, name(path)])));
    return el("div", { class: "issue" }, issue.photos.length ? gallery(issue.photos, 6, true) : el("div"), words);
  }

  // ---- learning

  function drawLearning() {
    const isEmpty = [drawLadder(), drawFitting(), drawTuning()].every((is) => !is);
    if (isEmpty) drop("learning");
  }

  function drawLadder() {
    if (!data.ladder.length) { drop("ladder"); return false; }
    const row = (r) => el("tr", null, el("th", { scope: "row" }, r.name), el("td", { class: "left" }, r.look || "–"), el("td", null, percent(r.accuracy), r.interval ? el("span", { class: "quiet" }, ` (${percent(r.interval[0]).slice(0, -2)} to ${percent(r.interval[1]).slice(0, -2)})`) : null),
      el("td", null, r.cross_entropy == null ? "–" : fixed(r.cross_entropy, 3)), el("td", null, r.is_taken ? "kept" : "no"), el("td", { class: "left" }, r.why || ""));
    const heads = ["What was tried", "With", data.ladder[0].is_balanced ? "Balanced accuracy, cross-validated" : "Cross-validated, right", "Cross entropy", "Kept", "Why"];
    at("ladder").append(el("h3", null, "The ladder: what was tried"), ...(sentences.ladder ? [el("p", { class: "reading" }, sentences.ladder)] : []),
      el("div", { class: "scroll" }, el("table", { class: "plain" }, el("thead", null, el("tr", null, ...heads.map((h, k) => el("th", { scope: "col", class: k === 1 || k === 5 ? "left" : null }, h)))), el("tbody", null, ...data.ladder.map(row)))),
      el("p", { class: "how" }, "Cross entropy punishes sureness about wrong answers; lower is better."));
    return true;
  }

  function twoCurves(rows, x, keys, words) {  // keys: of each split, from report/curve_table.py
    const series = [[keys.train, "a", "learnt from"], [keys.validation, "b", "held out"]].map(([key, kind, title]) => ({ kind, name: title, points: rows.map((r) => [r[x], r[key]]).filter((p) => p[1] != null) }));
    return { series: series.filter((s) => s.points.length), ...words };
  }

  function drawFitting() {
    const steps = (data.fitting || {}).steps || [];
    if (!steps.length) { drop("fitting"); return false; }
    const box = el("div", { class: "charts" });
    at("fitting").append(el("h3", null, "While it was learning"), ...(sentences.fitting ? [el("p", { class: "reading" }, sentences.fitting)] : []), box);
    const pairs = [["accuracy", { xLabel: "step", yLabel: "photos labelled rightly", isShare: true }], ["cross_entropy", { xLabel: "step", yLabel: "cross entropy (lower is better)" }]];
    for (const [measure, words] of pairs) addCurve(box, twoCurves(steps, "step", data.curve_keys.fitting[measure], words));
    const { n_train: learnt, n_validation: held } = data.fitting;
    if (learnt && held) box.after(el("p", { class: "how" }, `This was a fit of its own, to watch: of the photos that are learnt from, it learnt from ${number(learnt)}; ${number(held)} others, a fifth, were held out from this fit alone.`));
    return true;
  }

  function addCurve(box, options) {
    if (!options.series.length) return;
    const figure = el("figure");
    box.append(figure);
    chart(figure, options.yLabel, lineChart(options), 560);
  }

  function drawTuning() {
    const rows = data.tuning || [], keys = data.curve_keys.fine_tuning;
    if (!rows.length) { drop("tuning"); return false; }
    const box = el("div", { class: "charts" });
    at("tuning").append(el("h3", null, "Fine-tuning: the network learns too"), ...(sentences.tuning ? [el("p", { class: "reading" }, sentences.tuning)] : []), box);
    addCurve(box, twoCurves(rows, "epoch", keys.accuracy, { xLabel: "epoch", yLabel: "photos labelled rightly", isShare: true }));
    addCurve(box, twoCurves(rows, "epoch", keys.cross_entropy, { xLabel: "epoch", yLabel: "loss (lower is better)" }));
    return true;
  }

  function drawCurve() {
    const c = data.curve;
    if (!c || !c.points || c.points.length < 2) { drop("curve"); return; }
    const points = c.points.map((p) => [p.n_per_class, p.accuracy, p.interval[0], p.interval[1]]), last = points.at(-1)[0];
    const ahead = c.forecast ? { x: last + c.forecast.n_more, interval: c.forecast.interval } : null;
    const options = { series: [{ points, kind: "a" }], xLabel: "photos of each class", yLabel: "photos labelled rightly", isShare: true, isLog: true, ahead };
    chart(at("curve-chart"), sentences.curve || "accuracy against photos of each class", lineChart(options), 760)
      .append(el("figcaption", null, `How good it is when it learns from fewer of your photos; the band is the 95 % interval${ahead ? ", the wedge the forecast (90 % interval)" : ""}.${c.n_held_out ? ` All of it is judged on the ${number(c.n_held_out)} ${c.split === "test" ? "test" : "cross-validated"} photos that judged the result, its last point.` : ""}`));
  }

  function drawMap() {
    if (typeof headstartMap !== "function" || !photos.x) { drop("map"); return; }
    const issue = photos.label.map(() => null);
    for (const { title, found } of data.issues) for (const i of found.flatMap((f) => f.photos)) issue[i] ??= title;
    const sheets = sprites && { side: sprites.side, columns: sprites.columns, perSheet: sprites.perSheet, sheets: sprites.sheets.map(jpeg) };
    const { x, y, label, prediction, probability, split, is_right: isCorrect } = photos;
    headstartMap(at("map-box"), { x, y, label, prediction, probability, split, isCorrect, issue, classes, sprites: sheets, colours: data.colours, mayOpen: photos.may_open, wheel: "focus", ...originalsForMap() });
  }

  function originalsForMap() {
    if (data.base == null) return { names: photos.name, originals: photos.name.every((n) => n.startsWith("/")) ? "file://" : null };
    return { names: photos.name.map(withinFolder), originals: `${data.base.replace(/\/$/, "")}/` };
  }

  // ---- how it was made

  function drawCard() {
    at("limits").append(...data.limits.map((words) => el("li", null, unbroken(words))));
    if (data.notes.length) at("notes").append(el("h3", null, "Notes of the run"), el("ul", null, ...data.notes.map((n) => el("li", null, n)))); else drop("notes");
    const group = ([title, rows], k) => el("details", k < 2 ? { open: "" } : null, el("summary", null, title), el("dl", { class: "rows" }, ...rows.flatMap(([term, value]) => [el("dt", null, term), el("dd", null, name(value))])));
    at("groups").append(el("h3", null, "How it was made"), ...data.card.map(group));
    const onPage = photos.name.length < data.n_photos ? ` Of ${number(data.n_photos)} photos, ${number(photos.name.length)} are on this page: first all mistakes that fit, then others, evenly.` : "";
    const pictures = !sprites ? " There are no pictures on it: the photos were not there when it was written." : missing.size ? ` Of ${counted(missing.size, "photo")} there was no picture any more.` : "";
    at("foot").textContent = `Made by headstart ${data.version ?? ""}. This page is complete in itself and asks nothing of any network.${onPage}${pictures}`;
  }

  // ---- the page

  function drawContents() {
    const sections = [...document.querySelectorAll("main > section")], list = document.querySelector(".toc ol");
    const links = new Map(sections.map((s) => [s, el("a", { href: `#${s.id}` }, s.dataset.toc)]));
    list.append(...[...links.values()].map((a) => el("li", null, a)));
    if (!matchMedia("(min-width: 82rem)").matches) at("contents").removeAttribute("open");
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) for (const [s, a] of links) if (s === entry.target) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current");
    }, { rootMargin: "-20% 0px -70% 0px" });
    sections.forEach((s) => seen.observe(s));
  }

  function setUpTheme() {
    const root = document.documentElement, button = at("theme"), prefers = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
    const tell = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; tell(); });
    prefers.addEventListener("change", tell);
    tell();
  }

  function setUpPrinting() {
    let closed = [];
    addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("main details:not([open])")]; closed.forEach((d) => { d.open = true; }); });
    addEventListener("afterprint", () => closed.forEach((d) => { d.open = false; }));
    addEventListener("resize", () => charts.forEach((again) => again()));
  }

  function drawReadings() {
    for (const node of document.querySelectorAll("[data-reading]")) say(node, sentences[node.dataset.reading]);
    const note = !sprites ? "There are no pictures on this page: the photos were not there when it was written." : null;
    if (note) at("facts").after(el("p", { class: "note", id: "no-pictures" }, note));
    if (photos.name.length < data.n_photos) at("facts").after(el("p", { class: "note", id: "sampled" }, `All numbers are of all ${number(data.n_photos)} photos. ${number(photos.name.length)} of them can be looked at here: mistakes first, then others, evenly.`));
  }

  drawReadings();
  drawResult();
  drawScores();
  drawConfusion();
  drawMistakes();
  drawCalibration();
  drawUnfamiliar();
  drawIssues();
  drawMap();
  drawLearning();
  drawCurve();
  drawCard();
  drawToDo();
  drawContents();
  setUpLarge();
  setUpTheme();
  setUpPrinting();
  charts.forEach((again) => again()); // beside what was drawn after them, some have become narrower
})();
