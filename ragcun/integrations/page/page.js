"use strict";
// The search page. Everything from a document is put in as text, never as HTML.
const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let key = "", asked = 0;

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  return node;
}

async function call(path, body) {
  const headers = key ? {Authorization: "Bearer " + key} : {};
  const options = body ? {method: "POST", headers: {...headers, "Content-Type": "application/json"},
                          body: JSON.stringify(body)} : {headers};
  const response = await fetch(path, options);
  const found = await response.json().catch(() => ({}));
  if (response.status === 401) $("unlock").hidden = false;
  if (!response.ok) throw new Error(found.error ? found.error.message : "the server answered " + response.status);
  return found;
}

function say(text, error) {
  $("status").textContent = text;
  $("status").className = error ? "error" : "";
}

const signed = x => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(1);
const counted = n => n.toLocaleString("en") + (n === 1 ? " document" : " documents");
const capital = s => s.charAt(0).toUpperCase() + s.slice(1);

// --- a hit

function passage(text, places, className) {
  const letters = Array.from(text);           // places count characters, not UTF-16 units
  const node = make("p", className);
  let at = 0;
  for (const [start, end] of places) {
    node.append(letters.slice(at, start).join(""), make("mark", "", letters.slice(start, end).join("")));
    at = end;
  }
  node.append(letters.slice(at).join(""));
  return node;
}

function source(hit) {
  const m = hit.metadata || {};
  const headings = Array.isArray(m.headings) ? m.headings : m.heading ? [m.heading] : [];
  const parts = [m.source || hit.id, ...new Set([m.title, ...headings].filter(x => x))].map(String);
  if (m.page) parts.push("page " + m.page);
  return parts.join(" › ");
}

function split(hit, most) {
  const svg = draw("svg", {viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img",
                           "aria-label": `meaning ${signed(hit.dense)}, words ${signed(hit.words)} nats`});
  const scale = 100 / Math.max(most, 1e-9), dense = Math.max(hit.dense, 0) * scale;
  svg.append(draw("rect", {class: "meaning", x: 0, y: 0, width: dense, height: 8}),
             draw("rect", {class: "worded", x: dense, y: 0, width: Math.max(hit.words, 0) * scale, height: 8}));
  return svg;
}

function evidence(hit, most) {
  const row = make("div", "evidence"), total = make("span");
  total.append(make("b", "", signed(hit.evidence) + " nats"));
  const parts = make("span");
  parts.append(make("span", "meaning", "meaning " + signed(hit.dense)), " · ",
               make("span", "worded", "words " + signed(hit.words)), " · base " + signed(hit.constant));
  row.append(total, split(hit, most), parts, make("span", "", capital(hit.e_value_in_words) + "."));
  return row;
}

async function neighbours(item, hit) {
  if (item.dataset.open) return;
  item.dataset.open = "yes";
  try {
    const found = await call("documents?around=1&id=" + encodeURIComponent(hit.id));
    const own = item.querySelector(".passage");
    for (const p of found.passages) {
      if (p.asked) continue;
      const other = make("p", "passage other", p.text);
      if (p.metadata.position < hit.metadata.position) own.before(other); else own.after(other);
    }
    item.querySelector(".more").remove();
  } catch (error) { say(error.message, true); delete item.dataset.open; }
}

function card(hit, rank, most) {
  const item = make("li"), head = make("div", "head");
  item.tabIndex = 0;
  head.append(make("span", "rank", rank), make("span", "source", source(hit)));
  item.append(head, passage(hit.text, hit.matched, "passage"), evidence(hit, most));
  if (hit.copies) {
    const more = hit.copies.length > 3 ? ` and ${hit.copies.length - 3} more` : "";
    item.append(make("p", "copies", "The same text: " + hit.copies.slice(0, 3).join(", ") + more));
  }
  if (hit.metadata && hit.metadata.source && hit.metadata.position) {
    const more = make("button", "more", "Show what stands around it");
    more.type = "button";
    more.addEventListener("click", () => neighbours(item, hit));
    item.append(more);
    item.addEventListener("keydown", e => { if (e.key === "Enter" && e.target === item) neighbours(item, hit); });
  }
  return item;
}

// --- the picture: other documents as bars, hits as numbered dots

function ticks(low, high) {
  const step = [1, 2, 5, 10, 20, 50, 100].find(s => (high - low) / s <= 8) || 200, found = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  return found;
}

function picture(found) {
  const {edges, counts, documents} = found.surroundings, hits = found.hits;
  const low = Math.min(edges[0], ...hits.map(h => h.evidence)) - .5;
  const high = Math.max(edges[edges.length - 1], ...hits.map(h => h.evidence)) + .5;
  const wide = Math.max(280, Math.min(640, $("verdict").clientWidth - 40)), right = wide - 10;
  const x = e => 10 + (right - 10) * (e - low) / (high - low), floor = 100, tallest = Math.sqrt(Math.max(...counts, 1));
  const best = hits.length ? `, the best hit at ${signed(hits[0].evidence)} nats` : "";
  const svg = draw("svg", {viewBox: `0 0 ${wide} 124`, role: "img",
                           "aria-label": `Histogram of the evidence of ${documents} documents${best}`});
  counts.forEach((n, i) => n && svg.append(draw("rect", {
    class: "bar", x: x(edges[i]), width: Math.max(x(edges[i + 1]) - x(edges[i]) - 1, 1),
    y: floor - 62 * Math.sqrt(n) / tallest, height: 62 * Math.sqrt(n) / tallest})));
  svg.append(draw("line", {class: "axis", x1: 10, x2: right, y1: floor, y2: floor}));
  for (const t of ticks(low, high)) svg.append(draw("text", {class: "tick", x: x(t), y: 115, "text-anchor": "middle"}, t));
  hits.slice(0, 10).map((h, i) => [h, i]).reverse().forEach(([h, i]) => {
    const at = x(h.evidence), up = 14 + 16 * (i % 2);
    svg.append(draw("line", {class: "stem", x1: at, x2: at, y1: up, y2: floor}),
               draw("circle", {class: "dot", cx: at, cy: up, r: 8}),
               draw("text", {class: "number", x: at, y: up + 3.5}, i + 1));
  });
  $("picture").replaceChildren(svg, make("figcaption", "",
    `Evidence in nats. Grey: ${documents.toLocaleString("en")} documents of this collection for the same question. ` +
    "Numbered: the hits. A hit that stands apart is rarely there by chance."));
  $("picture").hidden = false;
}

// --- asking

function show(found) {
  $("verdict").hidden = false;
  $("verdict").className = found.answered === null ? "" : found.answered ? "yes" : "no";
  $("sentence").textContent = capital(found.verdict) + ".";
  $("corrected").replaceChildren();
  $("corrected").hidden = !found.corrected;
  if (found.corrected) {
    const exactly = make("button", "more", "Search as typed");
    exactly.type = "button";
    exactly.onclick = () => ask(found.query, false, true);
    $("corrected").append("Searched for: ", make("b", "", found.corrected), " · ", exactly);
  }
  if (found.surroundings) picture(found); else $("picture").hidden = true;
  const most = Math.max(...found.hits.map(h => Math.max(h.dense, 0) + Math.max(h.words, 0)), 1e-9);
  $("list").replaceChildren(...found.hits.map((h, i) => card(h, i + 1, most)));
  $("list").className = found.answered === false ? "doubtful" : "";
}

function request(question, asTyped) {
  const body = {query: question, as_written: asTyped, top_k: Number($("hits").value) || 5, words: Number($("words").value || 1), explain: true, merge: "text"};
  const filter = $("filter").value.trim();
  if (filter) {
    try { body.filter = JSON.parse(filter); } catch { throw new Error('The filter is no JSON. Write for example {"source": "manual.pdf"}'); }
  }
  return body;
}

async function ask(question, remember, asTyped = false) {
  const mine = ++asked;
  document.title = question;
  if (remember) history.pushState(null, "", "#q=" + encodeURIComponent(question));
  say("Searching…");
  try {
    const begun = performance.now(), body = request(question, asTyped), found = await call("search", body);
    if (mine !== asked) return;
    if (found.note) throw new Error(found.note);
    show(found);
    say(`${found.hits.length} of ${counted(found.documents)}, ${Math.round(performance.now() - begun)} ms`);
  } catch (error) {
    if (mine !== asked) return;
    $("verdict").hidden = true;
    $("list").replaceChildren();
    say(capital(error.message), true);
  }
}

function fromAddress() {
  const question = new URLSearchParams(location.hash.slice(1)).get("q");
  if (!question) return;
  $("question").value = question;
  ask(question, false);
}

async function describe() {
  try {
    const about = await call("about");
    $("about").textContent = `${counted(about.documents)}, searched by ${about.words ? "words and meaning" : "meaning"}.`;
  } catch { $("about").textContent = ""; }
}

$("ask").addEventListener("submit", e => {
  e.preventDefault();
  const question = $("question").value.trim();
  if (matchMedia("(hover: none)").matches) $("question").blur();   // a phone's keyboard covers the hits
  if (question) ask(question, true);
});
$("ask").addEventListener("invalid", e => {      // does not bubble; where "More" is folded, a browser says nothing
  if (e.target === $("question")) return;
  e.target.closest("details").open = true;
  say(`${e.target.closest("label").textContent.trim()}: ${e.target.validationMessage}`, true);
}, true);
$("unlock").addEventListener("submit", e => {
  e.preventDefault();
  key = $("key").value.trim();
  $("unlock").hidden = true;
  describe();
  if ($("question").value.trim()) ask($("question").value.trim(), false);
});
document.addEventListener("keydown", e => {
  const typing = /^(INPUT|TEXTAREA)$/.test(e.target.tagName), items = [...document.querySelectorAll("#list > li")];
  const here = items.indexOf(document.activeElement);
  if (e.key === "/" && !typing) { e.preventDefault(); $("question").focus(); $("question").select(); }
  else if (e.key === "Escape" && !typing) $("question").focus();
  else if (e.key === "ArrowDown" && items.length && (!typing || e.target === $("question"))) {
    e.preventDefault(); items[Math.min(here + 1, items.length - 1)].focus();
  } else if (e.key === "ArrowUp" && here >= 0) {
    e.preventDefault(); (here ? items[here - 1] : $("question")).focus();
  }
});
window.addEventListener("popstate", fromAddress);
describe();
fromAddress();
