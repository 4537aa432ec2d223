"use strict";
const root = document.body.dataset.root, html = document.documentElement;

// light, dark, as the system
document.querySelector(".theme").onclick = () => {
  const dark = html.dataset.theme === "dark" || (html.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  html.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", html.dataset.theme);
};

// pages on a small screen
const menu = document.querySelector(".menu");
menu.onclick = () => menu.setAttribute("aria-expanded", html.classList.toggle("menu-open"));
document.querySelector("main").addEventListener("click", () => { html.classList.remove("menu-open"); menu.setAttribute("aria-expanded", false); });
const current = document.querySelector(".side [aria-current]");
if (current) { const side = document.querySelector(".side"); side.scrollTop = Math.max(0, current.offsetTop - side.clientHeight / 2); }

// copy buttons
for (const block of document.querySelectorAll("div.sourceCode")) {
  const button = Object.assign(document.createElement("button"), { className: "copy", textContent: "Copy", type: "button" });
  button.onclick = () => navigator.clipboard.writeText(block.querySelector("pre").innerText).then(() => {
    button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1200); });
  block.append(button);
}

// where the reader is
const links = new Map([...document.querySelectorAll(".toc a")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
if (links.size) {
  const heads = [...links.keys()].map(id => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    let now = heads[0];
    for (const head of heads) if (head.getBoundingClientRect().top < 130) now = head;
    links.forEach(a => a.classList.remove("now"));
    links.get(now.id).classList.add("now");
  };
  addEventListener("scroll", mark, { passive: true }); mark();
}

// search: every word must occur; headings count most, whole words more than parts, pages to read before symbols
const dialog = document.querySelector("dialog.search"), input = dialog.querySelector("input"), list = dialog.querySelector("ol");
let entries = null, chosen = 0;
const load = () => entries ? Promise.resolve() : new Promise(done => {
  const script = Object.assign(document.createElement("script"), { src: root + "search.js", onload: () => { entries = window.SEARCH; done(); } });
  document.head.append(script); });
const open = () => load().then(() => { if (!dialog.open) dialog.showModal(); input.select(); show(); });
const escape = text => text.replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const lit = (text, words) => words.reduce((t, w) => t.replace(new RegExp("(" + w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + ")", "ig"), "\u0001$1\u0002"), escape(text))
  .replaceAll("\u0001", "<mark>").replaceAll("\u0002", "</mark>");
const NEAR = { "Get started": 5, Tutorials: 4, Explanations: 2 };  // what a reader who types plain words wants
function part(text, word, whole, piece) {
  let at = text.indexOf(word), best = 0;
  for (; at >= 0 && best < whole; at = text.indexOf(word, at + 1))
    best = /[\p{L}\p{N}_]/u.test((text[at - 1] || " ")) || /[\p{L}\p{N}_]/u.test((text[at + word.length] || " ")) ? piece : whole;
  return best;
}
function score(entry, words) {
  const head = entry.h.toLowerCase(), page = entry.p.toLowerCase(), text = entry.t.toLowerCase();
  let total = words.length > 1 ? part(head, words.join(" "), 40, 20) : 0;
  for (const word of words) {
    const s = (head === word ? 60 : entry.k && head.split(".").pop() === word ? 40 : head.startsWith(word) ? 25 : part(head, word, 14, 6))
      + part(page, word, 5, 2) + part(text, word, 5, 2);
    if (!s) return 0;
    total += word.length > 2 ? s : s / 4;
  }
  return (entry.k && words.length > 1 ? total / 2 : total) + (NEAR[entry.s] || 0) + (entry.u.includes("#") ? 0 : 3);
}
function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? entries.map(e => [score(e, words), e]).filter(([s]) => s).sort((a, b) => b[0] - a[0]).slice(0, 20) : [];
  chosen = 0;
  list.innerHTML = found.map(([, e], i) => {
    const at = Math.max(0, ...words.map(w => e.t.toLowerCase().indexOf(w))), from = Math.max(0, at - 40);
    const part = (from ? "…" : "") + e.t.slice(from, from + 150);
    return `<li class="${i ? "" : "now"}${e.k ? " symbol-hit" : ""}"><a href="${root}${e.u}"><b>${lit(e.h, words)}</b><small>${escape(e.s)} · ${escape(e.p)}</small><p>${lit(part, words)}</p></a></li>`;
  }).join("") || (words.length ? '<li class="none">Nothing found. Try fewer letters.</li>' : "");
}
document.querySelector(".find").onclick = open;
input.oninput = show;
dialog.onclick = event => { if (event.target === dialog || event.target.closest("a")) dialog.close(); };
dialog.onkeydown = event => {
  const rows = [...list.querySelectorAll("li:not(.none)")];
  if (event.key === "Escape") { event.preventDefault(); dialog.close(); }  // a search field would only empty itself
  if (event.key === "Enter" && rows.length) { event.preventDefault(); rows[chosen].querySelector("a").click(); }
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || !rows.length) return;
  event.preventDefault();
  rows[chosen].classList.remove("now");
  chosen = (chosen + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length;
  rows[chosen].classList.add("now"); rows[chosen].scrollIntoView({ block: "nearest" });
};
addEventListener("keydown", event => {
  if (event.target.matches("input, textarea")) return;
  if (event.key === "/" || (event.key === "k" && (event.metaKey || event.ctrlKey))) { event.preventDefault(); open(); }
});
