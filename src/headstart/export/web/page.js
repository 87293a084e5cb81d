// The page: pictures from files, by drag and drop, from the clipboard or from the camera, and what the classifier says of each.

import { load } from "./headstart.js";

const N_BARS = 5;
const place = (id) => document.getElementById(id);
let classifier;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** What the classifier says, as elements. */
function words(answer, file) {
  const isMany = classifier.about.labels === "many";
  const label = isMany ? answer.labels.join(", ") || "none of the labels" : answer.prediction;
  const heading = answer.unfamiliar ? "I don't recognise this" : label;
  const parts = [element("h2", { textContent: heading })];
  if (file) parts.unshift(element("p", { className: "file", textContent: file, title: file }));
  if (answer.unfamiliar) {
    parts.push(element("p", { className: "note", textContent: `It looks like nothing that was learnt; ${label} is a guess.` }));
  }
  for (const { label: name, probability } of answer.top.slice(0, N_BARS)) {
    const meter = element("meter", { min: 0, max: 1, value: probability, ariaLabel: `${name}: ${percent(probability)}` });
    const text = element("span", { textContent: name, title: name });
    parts.push(element("div", { className: "bar" }, text, element("span", { textContent: percent(probability) }), meter));
  }
  return parts;
}

async function addFile(file) {
  const picture = element("img", { alt: file.name, src: URL.createObjectURL(file) });
  const told = element("div", { className: "words" }, element("p", { className: "file", textContent: file.name }), "…");
  place("gallery").prepend(element("article", { className: "card" }, picture, told));
  try {
    const answer = await classifier.predict(file);
    told.replaceChildren(...words(answer, file.name));
    told.dataset.milliseconds = answer.milliseconds.toFixed(0);
  } catch (error) {
    picture.remove();
    const note = element("p", { className: "note", textContent: `${file.name}: ${error.message}` });
    told.replaceChildren(element("h2", { textContent: "No answer" }), note);
  }
}

function addFiles(files) {
  for (const file of files) if (classifier) addFile(file);
}

let stream;

async function toggleCamera() {
  if (stream) {
    for (const track of stream.getTracks()) track.stop();
    stream = undefined;
    place("live").hidden = true;
    place("camera").textContent = "Use the camera";
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("There is no camera that this page may use. It needs https, or this very computer, and your permission.", true);
  }
  place("live").hidden = false;
  place("camera").textContent = "Stop the camera";
  place("video").srcObject = stream;
  await place("video").play();
  while (stream) {
    const answer = await classifier.predict(place("video"));
    place("seen").replaceChildren(element("div", { className: "words" }, ...words(answer)));
    await new Promise(requestAnimationFrame);
  }
}

function say(text, isWrong = false) {
  place("state").textContent = text;
  place("loading").className = isWrong ? "failed" : "ready";
}

function listen() {
  place("files").addEventListener("change", ({ target }) => {
    addFiles([...target.files]);
    target.value = "";
  });
  place("camera").addEventListener("click", toggleCamera);
  const drop = place("drop");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    addFiles([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => addFiles([...event.clipboardData.files]));
}

async function start() {
  listen();
  const started = performance.now();
  try {
    classifier = await load("./", { onProgress: (share) => (place("progress").value = share) });
  } catch (error) {
    place("progress").remove();
    const isFile = location.protocol === "file:";
    const how = "Serve this folder, for example with: python -m http.server";
    return say(isFile ? `A browser does not load it from a file. ${how}` : `It could not be loaded: ${error.message}`, true);
  }
  const { about } = classifier;
  place("progress").remove();
  say(`Ready in ${((performance.now() - started) / 1000).toFixed(1)} s. Nothing leaves this device.`);
  document.title = about.name;
  place("name").textContent = about.name;
  place("about").textContent = `It tells ${about.classes.length} labels apart: ${about.classes.slice(0, 12).join(", ")}${about.classes.length > 12 ? ", …" : ""}`;
  place("card").textContent = `Made with headstart. Weights: ${about.backbone?.license ?? "see card.md"}; see card.md for how good it is.`;
  for (const id of ["files", "camera"]) place(id).disabled = false;
}

start();
