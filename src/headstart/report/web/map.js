/* The map of photos: headstartMap(element, data), one global, no dependency, no request but for the photos themselves.

   data, n photos; any list of numbers may also be {u8 | i8 | i16 | f32: base64 of little-endian numbers}:
     x, y          n numbers, y upwards; a photo without a finite position is left out
     names         n strings; root: what stands before each of them in its path ("" by default)
     classes       k strings
     label         n positions in classes, lists of them where photos have several labels, null or -1 for none
     prediction    the same; probability: n numbers from 0 to 1 or null (optional)
     split         n of 0 train, 1 validation, 2 test, -1 none
     isCorrect     n of true, false, null (or 1, 0, -1)
     issue         n of the kind or null; or {i8: ..., of: [kinds]}, -1 for none (optional)
     isNew         n of true or false (or 1, 0): drawn as diamonds (optional)
     unfamiliarity n numbers, above 1 where a photo looks like nothing that was learnt from, or NaN (optional)
     sprites       {side, columns, perSheet, sheets: [data URLs]}: photo i is square i; optional
     originals     what to put before a path for the URL of the photo itself ("file://", "../", ""); null: small pictures only
     mayOpen       n of true or false (or 1, 0): whether originals is followed (optional; all by default)
     colours       {classes, issues, splits: lists, right, wrong, unfamiliar, neutral, noIssue}: "#rrggbb", from report/colours.py
     wheel         "always" (by default) or "focus": the wheel zooms only once the map was clicked, for long pages
   It gives {renderer, points, positionOf(i), indexAt(x, y), select(indices), reset(), destroy()}; x, y are of the viewport. */
const headstartMap = (() => {
  "use strict";
  const SPLITS = ["train", "validation", "test"];
  const LISTED = 500;  // lines of a lasso's list; the CSV has all
  const TYPES = { u8: Uint8Array, i8: Int8Array, i16: Int16Array, f32: Float32Array };

  function unpack(value, n, otherwise) {
    if (value === null || value === undefined) return new Array(n).fill(otherwise);
    if (Array.isArray(value)) return value;
    const type = Object.keys(TYPES).find((t) => t in value);
    const text = atob(value[type]), bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    const numbers = new TYPES[type](bytes.buffer);
    if (value.of) return Array.from(numbers, (i) => (i < 0 ? null : value.of[i]));
    return numbers;
  }

  const truth = (v) => (v === true || v === 1 ? true : v === false || v === 0 ? false : null);
  const positionsIn = (v) => (Array.isArray(v) ? v : v === null || v === undefined || v < 0 ? [] : [v]);
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const count = (n) => n.toLocaleString("en");
  const photos = (n) => `${count(n)} ${n === 1 ? "photo" : "photos"}`;

  function make(tag, className, parent, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    if (tag === "button") element.type = "button";
    if (parent) parent.appendChild(element);
    return element;
  }

  // A byte of a file's name that is no UTF-8 comes as U+DC80 to U+DCFF: in an address it is that byte again.
  function address(base, path) {
    const parts = path.replace(/^\/+/, "/").replace(/^([A-Za-z]):[\\/]/, "/$1:/").split(/[\\/]/);
    const coded = parts.map((part, i) => (i === 1 && /^[A-Za-z]:$/.test(part) ? part : Array.from(part, (c) => {
      const code = c.codePointAt(0);
      if (code >= 0xdc80 && code <= 0xdcff) return "%" + (code - 0xdc00).toString(16);
      return code >= 0xd800 && code <= 0xdfff ? "%EF%BF%BD" : encodeURIComponent(c);
    }).join("")));
    return base + coded.join("/");
  }

  function prepare(data) {
    const n = data.names.length, xs = unpack(data.x, n, NaN), ys = unpack(data.y, n, NaN);
    const isPlaced = Array.from(xs, (x, i) => x !== null && ys[i] !== null && Number.isFinite(x) && Number.isFinite(ys[i]));
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i++) if (isPlaced[i]) {
      left = Math.min(left, xs[i]); right = Math.max(right, xs[i]); low = Math.min(low, ys[i]); high = Math.max(high, ys[i]);
    }
    const span = Math.max(right - left, high - low) || 1, at = new Float32Array(2 * n);  // in a square of 1, y downwards
    for (let i = 0; i < n; i++) {
      at[2 * i] = isPlaced[i] ? 0.5 + (xs[i] - (left + right) / 2) / span : -9;
      at[2 * i + 1] = isPlaced[i] ? 0.5 - (ys[i] - (low + high) / 2) / span : -9;
    }
    const list = (value) => Array.from(unpack(value, n, null), positionsIn);
    return {
      n, at, isPlaced, names: data.names, root: data.root || "", classes: data.classes || [], colours: data.colours,
      labels: list(data.label), predictions: list(data.prediction), probability: unpack(data.probability, n, null),
      split: Array.from(unpack(data.split, n, -1), (v) => (v === null ? -1 : v)),
      isCorrect: Array.from(unpack(data.isCorrect, n, null), truth), issue: unpack(data.issue, n, null),
      isNew: Array.from(unpack(data.isNew, n, false), (v) => truth(v) === true), unfamiliarity: unpack(data.unfamiliarity, n, NaN),
      mayOpen: Array.from(unpack(data.mayOpen, n, true), (v) => truth(v) === true),
      sprites: data.sprites || null, originals: data.originals === undefined ? null : data.originals,
    };
  }

  // Cells of a grid, each with its photos: what is near the pointer is asked of a few cells, not of 60,000 photos.
  function makeGrid(d) {
    const cells = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(d.n / 2))));
    const cell = (v) => Math.max(0, Math.min(cells - 1, Math.floor(v * cells)));
    const starts = new Int32Array(cells * cells + 1), members = new Int32Array(d.n);
    const of = (i) => cell(d.at[2 * i + 1]) * cells + cell(d.at[2 * i]);
    for (let i = 0; i < d.n; i++) if (d.isPlaced[i]) starts[of(i) + 1]++;
    for (let c = 0; c < cells * cells; c++) starts[c + 1] += starts[c];
    const next = starts.slice();
    for (let i = 0; i < d.n; i++) if (d.isPlaced[i]) members[next[of(i)]++] = i;
    return (x0, y0, x1, y1, visit) => {
      for (let row = cell(y0); row <= cell(y1); row++) {
        for (let m = starts[row * cells + cell(x0)]; m < starts[row * cells + cell(x1) + 1]; m++) visit(members[m]);
      }
    };
  }

  const VERTEX = `attribute vec2 at; attribute vec4 colour; attribute float kind; uniform vec4 view; uniform vec2 size;
    uniform float pass; varying vec4 fill; varying float shape; varying float pixels;
    void main() {
      fill = colour; shape = kind;
      bool isFaint = colour.a < 0.5;
      if (colour.a == 0.0 || isFaint != (pass < 0.5)) { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); gl_PointSize = 0.0; return; }
      gl_Position = vec4(at * view.xy + view.zw, 0.0, 1.0);
      pixels = size.x * (kind > 0.5 ? 1.7 : 1.0) + size.y;
      gl_PointSize = pixels;
    }`;
  const FRAGMENT = `precision mediump float; varying vec4 fill; varying float shape; varying float pixels;
    uniform vec3 edge; uniform vec3 ink;
    void main() {
      vec2 p = gl_PointCoord * 2.0 - 1.0;
      float r = shape > 0.5 ? abs(p.x) + abs(p.y) : length(p), soft = 2.0 / pixels;
      float cover = 1.0 - smoothstep(1.0 - soft, 1.0, r);
      float rim = pixels > 7.0 ? smoothstep(1.0 - 2.2 * soft, 1.0 - 1.2 * soft, r) * (shape > 0.5 ? 1.0 : 0.4) : 0.0;
      float alpha = cover * (fill.a < 0.5 ? 0.16 : 0.88);
      gl_FragColor = vec4(mix(fill.rgb, shape > 0.5 ? ink : edge, rim) * alpha, alpha);
    }`;

  function webglRenderer(canvas, d) {
    // Without a graphics card the CPU draws WebGL: 60,000 points in 40 to 60 ms, where Canvas 2D takes 17. Not every browser
    // admits that it is so (headless Chromium does not), so the name of what draws is looked at as well.
    const gl = canvas.getContext("webgl", { antialias: false, alpha: true, failIfMajorPerformanceCaveat: true });
    if (!gl) return null;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    if (info && /swiftshader|llvmpipe|softpipe|software|basic render/i.test(gl.getParameter(info.UNMASKED_RENDERER_WEBGL))) return null;
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
    gl.useProgram(program);
    const attribute = (name, values, width, type, isScaled) => {
      const buffer = gl.createBuffer(), place = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, width, type, isScaled, 0, 0);
      return buffer;
    };
    attribute("at", d.at, 2, gl.FLOAT, false);
    attribute("kind", Uint8Array.from(d.isNew, Number), 1, gl.UNSIGNED_BYTE, false);
    const colours = attribute("colour", new Uint8Array(4 * d.n), 4, gl.UNSIGNED_BYTE, true);
    const uniform = Object.fromEntries(["view", "size", "pass", "edge", "ink"].map((u) => [u, gl.getUniformLocation(program, u)]));
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    return {
      name: "webgl",
      paint(bytes) { gl.bindBuffer(gl.ARRAY_BUFFER, colours); gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.DYNAMIC_DRAW); },
      draw(view, radius, ratio, edge, ink) {
        gl.viewport(0, 0, canvas.width, canvas.height);
        gl.clear(gl.COLOR_BUFFER_BIT);
        const w = canvas.width / ratio, h = canvas.height / ratio;
        gl.uniform4f(uniform.view, (2 * view.k) / w, (-2 * view.k) / h, (2 * view.x) / w - 1, 1 - (2 * view.y) / h);
        gl.uniform2f(uniform.size, 2 * radius * ratio, 1);
        gl.uniform3f(uniform.edge, ...edge.map((c) => c / 255));
        gl.uniform3f(uniform.ink, ...ink.map((c) => c / 255));
        for (const pass of [0, 1]) { gl.uniform1f(uniform.pass, pass); gl.drawArrays(gl.POINTS, 0, d.n); }
      },
    };
  }

  function canvasRenderer(canvas, d) {
    const context = canvas.getContext("2d");
    let bytes = new Uint8Array(4 * d.n), order = [];
    return {
      name: "canvas",
      paint(painted) {  // by colour, the faint ones first, new photos last: a change of colour costs more than a point
        bytes = painted;
        const key = new Float64Array(d.n);
        for (let i = 0; i < d.n; i++) key[i] = (2 * bytes[4 * i + 3] + d.isNew[i]) * 16777216 + bytes[4 * i] * 65536 + bytes[4 * i + 1] * 256 + bytes[4 * i + 2];
        order = Array.from(key.keys()).filter((i) => bytes[4 * i + 3]).sort((a, b) => key[a] - key[b]);
      },
      draw(view, radius, ratio, edge, ink) {
        const w = canvas.width, h = canvas.height, r = radius * ratio, k = view.k * ratio;
        context.clearRect(0, 0, w, h);
        let last = -1;
        for (const i of order) {
          const x = d.at[2 * i] * k + view.x * ratio, y = d.at[2 * i + 1] * k + view.y * ratio;
          if (x < -r || y < -r || x > w + r || y > h + r) continue;
          const o = 4 * i, colour = ((bytes[o + 3] * 256 + bytes[o]) * 256 + bytes[o + 1]) * 256 + bytes[o + 2];
          if (colour !== last) {
            context.fillStyle = `rgba(${bytes[o]},${bytes[o + 1]},${bytes[o + 2]},${bytes[o + 3] < 128 ? 0.16 : 0.88})`;
            last = colour;
          }
          if (d.isNew[i]) {
            context.beginPath();
            context.moveTo(x, y - 1.8 * r); context.lineTo(x + 1.8 * r, y); context.lineTo(x, y + 1.8 * r); context.lineTo(x - 1.8 * r, y);
            context.fill();
            context.strokeStyle = `rgb(${ink})`; context.lineWidth = ratio; context.stroke();
          } else if (r < 2.5) context.fillRect(x - r, y - r, 2 * r, 2 * r);
          else { context.beginPath(); context.arc(x, y, r, 0, 6.2832); context.fill(); }
        }
      },
    };
  }

  // What photos are coloured by: entries of the legend, and each photo's entry.
  function modesOf(d) {
    const { classes, colours } = d, named = (text, colour) => ({ text, colour }), cycled = (list, i) => list[i % list.length];
    const ofClass = classes.map((text, i) => named(text, cycled(colours.classes, i)));
    const modes = {
      label: { title: "label", entries: [...ofClass, named(d.labels.every((l, i) => l.length || d.isNew[i]) ? "new photos" : "no label", colours.neutral), named("unfamiliar new photos", colours.unfamiliar)],
        of: (i) => d.labels[i][0] ?? classes.length + (d.isNew[i] && d.unfamiliarity[i] > 1 ? 1 : 0) },
      prediction: { title: "prediction", entries: [...ofClass, named("no prediction", colours.neutral)],
        of: (i) => d.predictions[i][0] ?? classes.length },
      split: { title: "split", entries: [...SPLITS.map((text, i) => named(text, colours.splits[i])), named("new photos", colours.neutral)],
        of: (i) => (d.split[i] < 0 ? 3 : d.split[i]) },
      correctness: { title: "right or wrong", entries: [named("right", colours.right), named("wrong", colours.wrong), named("not judged", colours.neutral)],
        of: (i) => (d.isCorrect[i] === null ? 2 : d.isCorrect[i] ? 0 : 1) },
    };
    if (d.unfamiliarity.some((u) => u >= 0)) {
      modes.familiarity = { title: "familiarity", entries: [named("familiar", colours.right), named("unfamiliar", colours.unfamiliar), named("not judged", colours.neutral)],
        of: (i) => (d.unfamiliarity[i] > 1 ? 1 : d.unfamiliarity[i] >= 0 ? 0 : 2) };
    }
    const kinds = [...new Set(d.issue.filter((kind) => kind !== null && kind !== undefined))].sort();
    if (kinds.length) {
      modes.issue = { title: "issue", entries: [...kinds.map((kind, i) => named(String(kind).replaceAll("_", " "), cycled(colours.issues, i))), named("none", colours.noIssue)],
        of: (i) => { const at = kinds.indexOf(d.issue[i]); return at < 0 ? kinds.length : at; } };
    }
    return modes;
  }

  function headstartMap(element, data) {
    const d = prepare(data), near = makeGrid(d), modes = modesOf(d);
    const isDone = new AbortController(), listen = (target, type, act, options) =>
      target.addEventListener(type, act, { signal: isDone.signal, ...options });
    element.classList.add("hs-map");
    element.replaceChildren();

    // -- the parts of the page
    const bar = make("div", "hs-map-bar", element), byLabel = make("label", "", bar, "Colour by");
    const by = make("select", "", byLabel);
    for (const [key, mode] of Object.entries(modes)) make("option", "", by, mode.title).value = key;
    const search = make("input", "hs-map-search", bar);
    search.type = "search"; search.placeholder = "Search name or class"; search.setAttribute("aria-label", "Search name or class");
    const matchCount = make("span", "hs-map-found", bar);
    matchCount.setAttribute("role", "status");
    const tool = (text, title) => { const b = make("button", "hs-map-tool", bar, text); b.title = title; return b; };
    const showPhotos = tool("Photos", "Show the photos themselves at any zoom"), lasso = tool("Lasso", "Draw around photos to list them (or Shift and drag)");
    const zoomOut = tool("−", "Zoom out"), zoomIn = tool("+", "Zoom in"), reset = tool("Reset view", "Show everything (0)");
    zoomOut.setAttribute("aria-label", "Zoom out"); zoomIn.setAttribute("aria-label", "Zoom in");
    for (const b of [zoomOut, zoomIn]) b.classList.add("hs-map-zoom");
    for (const b of [showPhotos, lasso]) b.setAttribute("aria-pressed", "false");
    showPhotos.hidden = !d.sprites;
    const stage = make("div", "hs-map-stage", element);
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-label", `Map of ${photos(d.n)}. Arrow keys walk to neighbouring photos, Enter opens one, Escape closes it, plus and minus zoom, 0 resets.`);
    let points = make("canvas", "", stage);
    const overlay = make("canvas", "", stage), pen = overlay.getContext("2d");
    make("div", "hs-map-help", stage, "Wheel or pinch zooms · drag moves · Shift-drag lassoes · click opens · arrow keys walk");
    const tip = make("div", "hs-map-tip", stage), tipPicture = make("canvas", "", tip);
    const tipName = make("div", "hs-map-name", tip), tipFacts = make("div", "", tip);
    tip.hidden = true;
    const spoken = make("div", "hs-map-hidden", element);
    spoken.setAttribute("aria-live", "polite");
    const side = make("div", "hs-map-side", element), head = make("div", "hs-map-legend-head", side), headText = make("span", "", head);
    const all = make("button", "", head, "All"), none = make("button", "", head, "None");
    const filter = make("input", "hs-map-filter", side);
    filter.type = "search"; filter.placeholder = "Filter classes"; filter.setAttribute("aria-label", "Filter classes");
    const legend = make("ul", "hs-map-legend", side);
    const chosenPanel = make("div", "hs-map-chosen", side), chosenHead = make("div", "hs-map-chosen-head", chosenPanel);
    const chosenCount = make("strong", "", chosenHead), copy = make("button", "", chosenHead, "Copy paths");
    const download = make("button", "", chosenHead, "CSV"), clear = make("button", "", chosenHead, "Clear");
    const chosenList = make("ol", "", chosenPanel);
    chosenPanel.hidden = true;
    const large = make("div", "hs-map-large", element);
    large.setAttribute("role", "dialog"); large.setAttribute("aria-modal", "true"); large.setAttribute("aria-label", "Photo");
    const largePhoto = make("div", "hs-map-photo", large), largeName = make("div", "hs-map-name", large), largeFacts = make("div", "", large);
    const close = make("button", "", large, "Close");
    large.hidden = true;

    // -- state
    const view = { k: 1, x: 0, y: 0 }, home = { k: 1 };
    let mode = modes.label, keys = new Int32Array(d.n), hidden = new Set(), matches = null, chosen = null, isChosen = null;
    let current = -1, opened = -1, lassoing = null, isDirty = false, isPainted = false, ratio = 1, width = 1, height = 1, ink = [0, 0, 0], back = [255, 255, 255];
    let haystack = null, wasFocusedByClick = false;
    const path = (i) => d.root + d.names[i], base = (i) => path(i).split(/[\\/]/).pop() || path(i);
    const textOf = (list) => list.map((c) => d.classes[c]).join(" | ");
    const isShown = (i) => d.isPlaced[i] && !hidden.has(keys[i]);
    const isLit = (i) => (!matches || matches[i]) && (!isChosen || isChosen[i]);

    let renderer = webglRenderer(points, d);
    if (!renderer) { useCanvas(); } else listen(points, "webglcontextlost", (event) => { event.preventDefault(); useCanvas(); isPainted = false; resize(); });
    function useCanvas() {
      const fresh = make("canvas");
      points.replaceWith(fresh);
      points = fresh;
      renderer = canvasRenderer(points, d);
    }

    // -- pictures
    const sheets = [];
    function sheet(s) {
      if (!sheets[s]) {
        sheets[s] = new Image();
        sheets[s].onload = () => { redraw(); if (current >= 0) drawPicture(tipPicture, current); listPictures(); };
        sheets[s].src = d.sprites.sheets[s];
      }
      return sheets[s].complete && sheets[s].naturalWidth ? sheets[s] : null;
    }
    function drawSquare(context, i, x, y, size) {
      if (!d.sprites) return false;
      const { side: s, columns, perSheet } = d.sprites, at = i % perSheet;
      if (Math.floor(i / perSheet) >= d.sprites.sheets.length) return false;
      const image = sheet(Math.floor(i / perSheet));
      if (image) context.drawImage(image, (at % columns) * s, Math.floor(at / columns) * s, s, s, x, y, size, size);
      return Boolean(image);
    }
    function drawPicture(canvas, i) {
      canvas.width = canvas.height = d.sprites ? d.sprites.side * 2 : 2;
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      canvas.hidden = !d.sprites || Math.floor(i / d.sprites.perSheet) >= d.sprites.sheets.length;
      if (!canvas.hidden) drawSquare(context, i, 0, 0, canvas.width);
    }
    function facts(i) {
      const lines = [];
      if (d.isNew[i]) lines.push("new: it was not there when the classifier was trained");
      if (d.labels[i].length) lines.push(`label: ${textOf(d.labels[i])}`);
      if (d.predictions[i].length) {
        const p = d.probability[i], isKnown = p !== null && p >= 0;
        lines.push(`prediction: ${textOf(d.predictions[i])}${isKnown ? ` (${(100 * p).toFixed(p > 0.995 ? 1 : 0)} %)` : ""}${d.isCorrect[i] === false ? ", wrong" : ""}`);
      }
      if (d.unfamiliarity[i] > 1) lines.push(`unfamiliar (${d.unfamiliarity[i].toFixed(1)}): like nothing it was shown`);
      if (d.split[i] >= 0) lines.push(`split: ${SPLITS[d.split[i]]}`);
      if (d.issue[i]) lines.push(`issue: ${String(d.issue[i]).replaceAll("_", " ")}`);
      return lines;
    }
    function writeFacts(parent, i) { parent.replaceChildren(); for (const line of facts(i)) make("div", "hs-map-facts", parent, line); }

    // -- drawing
    function redraw() { if (!isDirty) { isDirty = true; requestAnimationFrame(draw); } }
    function repaint() { isPainted = false; redraw(); }
    function paint() {
      const bytes = new Uint8Array(4 * d.n), colours = mode.entries.map((entry) => rgb(entry.colour));
      for (let i = 0; i < d.n; i++) if (isShown(i)) bytes.set([...colours[keys[i]], isLit(i) ? 255 : 60], 4 * i);
      renderer.paint(bytes);
      isPainted = true;
    }
    const radius = () => Math.min(10, Math.max(1.2, Math.min(5, 110 / Math.sqrt(d.n)) * Math.min(1, Math.max(0.6, Math.min(width, height) / 700))) * Math.pow(Math.max(1, view.k / home.k), 0.4));
    const screen = (i) => [d.at[2 * i] * view.k + view.x, d.at[2 * i + 1] * view.k + view.y];
    function draw() {
      isDirty = false;
      if (isDone.signal.aborted) return;
      if (!isPainted) paint();
      renderer.draw(view, radius(), ratio, back, ink);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      drawThumbnails();
      if (current >= 0 && isShown(current)) drawRing(current);
      if (lassoing && lassoing.length > 1) drawLasso();
    }
    function drawThumbnails() {
      const isAsked = showPhotos.getAttribute("aria-pressed") === "true";
      if (!d.sprites || (!isAsked && view.k < 2.2 * home.k)) return;
      const inside = [];
      near(-view.x / view.k, -view.y / view.k, (width - view.x) / view.k, (height - view.y) / view.k, (i) => {
        const [x, y] = screen(i);
        if (x > -40 && y > -40 && x < width + 40 && y < height + 40 && isShown(i) && isLit(i)) inside.push(i);
      });
      const room = (width * height) / Math.max(1, inside.length);
      if (!isAsked && room < 700) return;
      const size = Math.max(24, Math.min(d.sprites.side, 0.72 * Math.sqrt(room))), taken = new Set();
      inside.sort((a, b) => a - b);
      for (const i of inside) {  // one in each square of the screen: what would lie below others stays a point
        const [x, y] = screen(i), cell = `${Math.floor((x - view.x) / size)} ${Math.floor((y - view.y) / size)}`;
        if (taken.has(cell)) continue;
        taken.add(cell);
        pen.fillStyle = mode.entries[keys[i]].colour;
        pen.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
        drawSquare(pen, i, x - size / 2, y - size / 2, size);
      }
    }
    function drawRing(i) {
      const [x, y] = screen(i);
      for (const [colour, line] of [[back, 5], [ink, 2.5]]) {
        pen.strokeStyle = `rgb(${colour})`; pen.lineWidth = line;
        pen.beginPath(); pen.arc(x, y, radius() + 5, 0, 6.2832); pen.stroke();
      }
    }
    function drawLasso() {
      pen.beginPath();
      for (const [x, y] of lassoing) pen.lineTo(x, y);
      pen.closePath();
      pen.fillStyle = "rgba(0,114,178,0.12)"; pen.fill();
      pen.strokeStyle = `rgb(${ink})`; pen.lineWidth = 1.5; pen.setLineDash([5, 4]); pen.stroke(); pen.setLineDash([]);
    }
    function resize() {
      const isFirst = home.k === 1, box = stage.getBoundingClientRect(), before = { ...home };
      width = Math.max(1, box.width); height = Math.max(1, box.height); ratio = Math.min(2, window.devicePixelRatio || 1);
      for (const canvas of [points, overlay]) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
      const wasHome = isFirst || (view.k === before.k && view.x === before.x && view.y === before.y);
      fit(d.at, d.isPlaced, home);
      if (wasHome) Object.assign(view, home);
      redraw();
    }
    function fit(at, isIn, result) {
      let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
      for (let i = 0; i < d.n; i++) if (isIn[i] && d.isPlaced[i]) {
        x0 = Math.min(x0, at[2 * i]); x1 = Math.max(x1, at[2 * i]); y0 = Math.min(y0, at[2 * i + 1]); y1 = Math.max(y1, at[2 * i + 1]);
      }
      if (x0 > x1) [x0, x1, y0, y1] = [0, 1, 0, 1];
      const margin = Math.min(40, 0.08 * Math.min(width, height));
      const k = Math.min((width - 2 * margin) / Math.max(x1 - x0, 0.02), (height - 2 * margin) / Math.max(y1 - y0, 0.02));
      result.k = Math.max(10, k); result.x = width / 2 - (result.k * (x0 + x1)) / 2; result.y = height / 2 - (result.k * (y0 + y1)) / 2;
    }
    function readTheme() {
      const style = getComputedStyle(element);
      const numbers = (colour, otherwise) => (colour.match(/[\d.]+/g) || otherwise).slice(0, 3).map(Number);
      ink = numbers(style.color, [0, 0, 0]); back = numbers(style.backgroundColor, [255, 255, 255]);
      redraw();
    }

    // -- looking
    function zoom(factor, x, y) {
      const k = Math.max(home.k / 3, Math.min(home.k * 400, view.k * factor)), f = k / view.k;
      view.x = x - (x - view.x) * f; view.y = y - (y - view.y) * f; view.k = k;
      follow(); redraw();
    }
    function nearestTo(x, y, reach) {
      const r = reach / view.k, cx = (x - view.x) / view.k, cy = (y - view.y) / view.k;
      let best = -1, least = r * r;
      near(cx - r, cy - r, cx + r, cy + r, (i) => {
        const far = (d.at[2 * i] - cx) ** 2 + (d.at[2 * i + 1] - cy) ** 2;
        if (far <= least && isShown(i)) { best = i; least = far; }
      });
      return best;
    }
    function point(i) {
      if (i === current && tip.hidden === i < 0) return;
      current = i;
      tip.hidden = i < 0;
      stage.classList.toggle("hs-map-over", i >= 0);
      if (i >= 0) { drawPicture(tipPicture, i); tipName.textContent = base(i); writeFacts(tipFacts, i); follow(); }
      redraw();
    }
    function follow() {
      if (current < 0) return;
      const [x, y] = screen(current), w = tip.offsetWidth, h = tip.offsetHeight;
      tip.style.left = `${Math.max(4, x + 16 + w > width ? x - 16 - w : x + 16)}px`;
      tip.style.top = `${Math.max(4, Math.min(height - h - 4, y - h / 2))}px`;
    }
    function walk(dx, dy) {
      let best = -1, least = Infinity;
      if (current < 0 || !isShown(current)) best = nearestTo(width / 2, height / 2, 4 * Math.max(width, height));
      else for (let i = 0; i < d.n; i++) {
        if (i === current || !isShown(i) || !isLit(i)) continue;
        const x = d.at[2 * i] - d.at[2 * current], y = d.at[2 * i + 1] - d.at[2 * current + 1], ahead = x * dx + y * dy;
        const aside = Math.abs(x * dy) + Math.abs(y * dx);
        if (ahead <= 0 || aside > ahead) continue;
        const cost = ahead + 2 * aside;
        if (cost < least) { least = cost; best = i; }
      }
      if (best < 0) return;
      const [x, y] = screen(best), room = 60;  // the map moves along where the next photo lies outside
      view.x += x < room ? room - x : x > width - room ? width - room - x : 0;
      view.y += y < room ? room - y : y > height - room ? height - room - y : 0;
      point(best);
      spoken.textContent = [base(best), ...facts(best)].join(", ");
      if (opened >= 0) open(best);
    }
    function open(i) {
      opened = i;
      point(i);
      large.hidden = false;
      tip.hidden = true;
      largeName.textContent = path(i);
      writeFacts(largeFacts, i);
      const small = make("canvas");
      drawPicture(small, i);
      largePhoto.replaceChildren(small);
      if (d.originals !== null && d.mayOpen[i]) {
        const photo = new Image();
        photo.alt = base(i);
        photo.onload = () => { if (opened === i) largePhoto.replaceChildren(photo); };
        photo.src = address(d.originals, path(i));
      }
      close.focus();
    }
    function shut() { if (opened >= 0) { opened = -1; large.hidden = true; stage.focus(); } }

    // -- choosing
    function colourBy(key) {
      mode = modes[key];
      hidden = new Set();
      for (let i = 0; i < d.n; i++) keys[i] = mode.of(i);
      const counts = new Int32Array(mode.entries.length);
      for (let i = 0; i < d.n; i++) if (d.isPlaced[i]) counts[keys[i]]++;
      headText.textContent = mode.title[0].toUpperCase() + mode.title.slice(1);
      legend.replaceChildren();
      mode.entries.forEach((entry, e) => {
        const isClass = (mode === modes.label || mode === modes.prediction) && e < d.classes.length;
        if (!counts[e] && !isClass) return;
        const button = make("button", "", make("li", "", legend));
        make("span", `hs-map-dot${entry.text.endsWith("new photos") ? " hs-map-new" : ""}`, button).style.background = entry.colour;
        make("span", "hs-map-entry", button, entry.text).title = entry.text;
        make("span", "hs-map-count", button, count(counts[e]));
        button.dataset.entry = e;
        button.setAttribute("aria-pressed", "true");
      });
      filter.hidden = legend.children.length <= 12;
      filter.value = "";
      repaint();
    }
    function toggle(e, isOn) {
      if (isOn) hidden.delete(e); else hidden.add(e);
      legend.querySelector(`[data-entry="${e}"]`).setAttribute("aria-pressed", String(isOn));
      if (current >= 0 && !isShown(current)) point(-1);
      repaint();
    }
    function seek() {
      const words = search.value.trim().toLowerCase();
      if (!words) { matches = null; matchCount.textContent = ""; repaint(); return; }
      haystack = haystack || d.names.map((_, i) => [path(i), textOf(d.labels[i]), textOf(d.predictions[i])].join("\n").toLowerCase());
      matches = new Uint8Array(d.n);
      let n = 0;
      for (let i = 0; i < d.n; i++) if (d.isPlaced[i] && haystack[i].includes(words)) { matches[i] = 1; n++; }
      matchCount.textContent = n ? `${photos(n)} found${n ? "; Enter shows them" : ""}` : "No photo found";
      repaint();
    }
    function choose(indices) {
      chosen = indices && indices.length ? indices : null;
      isChosen = null;
      chosenPanel.hidden = !indices;
      if (indices) {
        chosenCount.textContent = indices.length ? `${photos(indices.length)} inside` : "No photo inside";
        copy.hidden = download.hidden = !chosen;
        chosenList.replaceChildren();
        for (const i of indices.slice(0, LISTED)) {
          const button = make("button", "", make("li", "", chosenList));
          button.dataset.photo = i;
          drawPicture(make("canvas", "", button), i);
          make("span", "hs-map-entry", button, base(i)).title = path(i);
        }
        if (indices.length > LISTED) make("li", "hs-map-facts", chosenList, `and ${count(indices.length - LISTED)} more, all in the CSV`);
      }
      if (chosen) { isChosen = new Uint8Array(d.n); for (const i of chosen) isChosen[i] = 1; }
      repaint();
    }
    function listPictures() {
      if (chosen) for (const button of chosenList.querySelectorAll("[data-photo]")) drawPicture(button.firstChild, Number(button.dataset.photo));
    }
    function inside(polygon) {
      const result = [];
      for (let i = 0; i < d.n; i++) {
        if (!isShown(i) || (matches && !matches[i])) continue;
        const [x, y] = screen(i);
        let isIn = false;
        for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
          const [ax, ay] = polygon[a], [bx, by] = polygon[b];
          if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isIn = !isIn;
        }
        if (isIn) result.push(i);
      }
      return result;
    }
    // An apostrophe before what a spreadsheet would run as a formula, as in safety/csv_cells.py.
    const harmless = (text) => text.replace(/(^|[;\t\r\n])('*[ \u00a0]*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2");
    const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const csv = () => ["path,label,prediction", ...chosen.map((i) => [path(i), d.labels[i], d.predictions[i]]
      .map((v) => cell(harmless(Array.isArray(v) ? v.map((c) => d.classes[c]).join("|") : v))).join(","))].join("\r\n") + "\r\n";
    async function copyPaths() {
      const text = chosen.map(path).join("\n");
      try { await navigator.clipboard.writeText(text); } catch {  // not every browser lets a file's page write there
        const area = make("textarea", "hs-map-hidden", element);
        area.value = text;
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy paths"; }, 1500);
    }
    function save() {
      const link = make("a");
      link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
      link.download = "photos.csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }

    // -- hands
    const touching = new Map();
    let moved = 0, pinch = null;
    const at = (event) => { const box = stage.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    const isLasso = () => lasso.getAttribute("aria-pressed") === "true";
    listen(stage, "pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      stage.focus({ preventScroll: true });
      wasFocusedByClick = true;
      touching.set(event.pointerId, at(event));
      if (touching.size === 1) { moved = 0; lassoing = event.shiftKey || isLasso() ? [at(event)] : null; } else lassoing = null;
      pinch = null;
    });
    listen(stage, "pointermove", (event) => {
      const here = at(event), before = touching.get(event.pointerId);
      if (!before) { if (event.pointerType !== "touch") point(nearestTo(...here, 12)); return; }
      touching.set(event.pointerId, here);
      moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
      if (touching.size === 2) {
        const [a, b] = [...touching.values()], now = { far: Math.hypot(a[0] - b[0], a[1] - b[1]) || 1, x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
        if (pinch) { view.x += now.x - pinch.x; view.y += now.y - pinch.y; zoom(now.far / pinch.far, now.x, now.y); }
        pinch = now;
      } else if (lassoing) { lassoing.push(here); redraw(); }
      else if (touching.size === 1 && moved > 4) {
        stage.classList.add("hs-map-dragging");
        view.x += here[0] - before[0]; view.y += here[1] - before[1];
        follow(); redraw();
      }
    });
    const release = (event) => {
      if (!touching.delete(event.pointerId)) return;
      stage.classList.remove("hs-map-dragging");
      if (touching.size) { moved = 99; pinch = null; return; }
      const drawn = lassoing;
      lassoing = null;
      if (event.type === "pointercancel") { redraw(); return; }
      if (drawn && moved > 8) { choose(inside(drawn)); return; }
      if (moved <= 4) { const i = nearestTo(...at(event), event.pointerType === "touch" ? 22 : 12); if (i >= 0) open(i); }
      redraw();
    };
    listen(stage, "pointerup", release);
    listen(stage, "pointercancel", release);
    listen(stage, "pointerleave", () => { if (!touching.size && opened < 0) point(-1); });
    listen(stage, "wheel", (event) => {
      if (data.wheel === "focus" && !wasFocusedByClick && !event.ctrlKey) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0018) * (event.ctrlKey ? 4 : 1)), ...at(event));
      point(nearestTo(...at(event), 12));
    }, { passive: false });
    listen(stage, "blur", () => { wasFocusedByClick = false; });
    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    listen(stage, "keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const act = ARROWS[event.key] ? () => walk(...ARROWS[event.key])
        : { Enter: () => current >= 0 && open(current), Escape: () => { if (chosen) choose(null); else point(-1); }, "0": () => toHome(),
          "+": () => zoom(1.4, width / 2, height / 2), "=": () => zoom(1.4, width / 2, height / 2), "-": () => zoom(1 / 1.4, width / 2, height / 2) }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    listen(large, "keydown", (event) => {
      if (event.key === "Escape") shut(); else if (ARROWS[event.key]) walk(...ARROWS[event.key]); else if (event.key !== "Tab") return;
      event.preventDefault();  // Tab stays on the one button that there is
      event.stopPropagation();
    });
    listen(large, "click", (event) => { if (event.target === close || event.target === largePhoto || event.target === large) shut(); });
    const toHome = () => { Object.assign(view, home); follow(); redraw(); };
    listen(reset, "click", toHome);
    listen(zoomIn, "click", () => zoom(1.5, width / 2, height / 2));
    listen(zoomOut, "click", () => zoom(1 / 1.5, width / 2, height / 2));
    const press = (button, act) => listen(button, "click", () => { const isOn = button.getAttribute("aria-pressed") !== "true"; button.setAttribute("aria-pressed", String(isOn)); act(isOn); });
    press(lasso, (isOn) => stage.classList.toggle("hs-map-lassoing", isOn));
    press(showPhotos, redraw);
    listen(by, "change", () => colourBy(by.value));
    listen(search, "input", seek);
    listen(search, "keydown", (event) => { if (event.key === "Enter" && matches && matches.includes(1)) { fit(d.at, matches, view); view.k = Math.min(view.k, home.k * 40); fitMiddle(matches); redraw(); } });
    function fitMiddle(isIn) {  // a single photo would fill the screen with nothing: zoom less, in its middle
      let x = 0, y = 0, n = 0;
      for (let i = 0; i < d.n; i++) if (isIn[i]) { x += d.at[2 * i]; y += d.at[2 * i + 1]; n++; }
      if (view.k === home.k * 40) { view.x = width / 2 - (view.k * x) / n; view.y = height / 2 - (view.k * y) / n; }
    }
    listen(filter, "input", () => {
      const words = filter.value.trim().toLowerCase();
      for (const item of legend.children) item.hidden = !item.textContent.toLowerCase().includes(words);
    });
    listen(legend, "click", (event) => {
      const button = event.target.closest("button");
      if (button) toggle(Number(button.dataset.entry), hidden.has(Number(button.dataset.entry)));
    });
    const toggleAll = (isOn) => { for (const item of legend.children) if (!item.hidden) toggle(Number(item.firstChild.dataset.entry), isOn); };
    listen(all, "click", () => toggleAll(true));
    listen(none, "click", () => toggleAll(false));
    listen(copy, "click", copyPaths);
    listen(download, "click", save);
    listen(clear, "click", () => choose(null));
    listen(chosenList, "click", (event) => { const button = event.target.closest("[data-photo]"); if (button) open(Number(button.dataset.photo)); });
    listen(matchMedia("(prefers-color-scheme: dark)"), "change", readTheme);
    const themes = new MutationObserver(readTheme), sizes = new ResizeObserver(resize);
    themes.observe(document.documentElement, { attributes: true });
    sizes.observe(stage);
    if (data.wheel === "focus") stage.style.touchAction = "pan-y";
    colourBy("label");
    resize();
    readTheme();
    return {
      get renderer() { return renderer.name; },
      points: d.n,
      positionOf(i) { const box = stage.getBoundingClientRect(), [x, y] = screen(i); return [box.left + x, box.top + y]; },
      indexAt(x, y) { const box = stage.getBoundingClientRect(); return nearestTo(x - box.left, y - box.top, 12); },
      select: choose,
      reset: toHome,
      destroy() { isDone.abort(); themes.disconnect(); sizes.disconnect(); element.replaceChildren(); },
    };
  }
  return headstartMap;
})();
