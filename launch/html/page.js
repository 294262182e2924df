// Values by pointer and keyboard, the theme, and reloading while a run goes on. The page is whole without all of this.
"use strict";

const number = (value) => {
  if (value === null) return "not finite";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
  return String(Number(value.toPrecision(5)));
};

// The index of the entry of the ascending list that is nearest to x; -1 of an empty list.
const nearest = (list, x) => {
  let low = 0, high = list.length - 1;
  if (high < 0) return -1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (list[middle] <= x) low = middle; else high = middle;
  }
  return Math.abs(list[high] - x) < Math.abs(list[low] - x) ? high : low;
};

const element = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};

// A plot is a slider over the steps that have a point.
class Reader {
  constructor(plot) {
    this.plot = plot;
    this.data = JSON.parse(plot.parentElement.querySelector("script").textContent);
    this.steps = [...new Set(this.data.curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    this.title = plot.parentElement.querySelector("h3").textContent;
    this.index = this.steps.length - 1;
    this.cursor = plot.appendChild(element("div", "cursor"));
    this.readout = plot.appendChild(element("div", "readout"));
    this.become_slider();
    this.hide();
    plot.addEventListener("pointermove", (event) => this.point(event));
    plot.addEventListener("pointerdown", (event) => this.point(event));
    plot.addEventListener("pointerleave", () => { if (document.activeElement !== plot) this.hide(); });
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("focus", () => this.show(this.index));
    plot.addEventListener("blur", () => this.hide());
  }

  become_slider() {
    const set = (name, value) => this.plot.setAttribute(name, value);
    set("aria-label", this.title + ", value at a step");
    set("role", "slider");
    set("tabindex", "0");
    set("aria-orientation", "horizontal");
    set("aria-valuemin", this.steps[0]);
    set("aria-valuemax", this.steps[this.steps.length - 1]);
    this.announce(this.lines_at(this.steps[this.index]));
  }

  // What each curve has at the step, or nearby; nothing of a curve that is far from it.
  lines_at(step) {
    const reach = (this.data.high - this.data.low) / 40;
    return this.data.curves.flatMap((curve) => {
      const i = nearest(curve.x, step);
      if (i < 0 || Math.abs(curve.x[i] - step) > reach) return [];
      const at = curve.x[i] === step ? "" : ` (at ${number(curve.x[i])})`;
      return [{ name: curve.name, colour: curve.colour, text: number(curve.y[i]) + at }];
    });
  }

  announce(lines) {
    const step = this.steps[this.index];
    this.plot.setAttribute("aria-valuenow", step);
    this.plot.setAttribute("aria-valuetext", `step ${number(step)}: ` + lines.map((l) => `${l.name} ${l.text}`).join(", "));
  }

  show(index) {
    this.index = Math.max(0, Math.min(this.steps.length - 1, index));
    const step = this.steps[this.index], lines = this.lines_at(step);
    const share = (step - this.data.low) / (this.data.high - this.data.low);
    this.cursor.style.left = 100 * share + "%";
    this.readout.replaceChildren(element("b", "", `step ${number(step)}`));
    for (const line of lines) {
      const row = element("p", line.colour >= 0 ? "s" + line.colour : "");
      const name = element("span", "", line.name);
      if (line.colour >= 0) name.prepend(element("i"));
      row.append(name, element("b", "", line.text));
      this.readout.append(row);
    }
    this.cursor.hidden = this.readout.hidden = false;
    // Beside the cursor, on the side where there is room.
    const width = this.plot.clientWidth, own = this.readout.offsetWidth;
    const wanted = share < 0.5 ? share * width + 12 : share * width - own - 12;
    const left = this.plot.getBoundingClientRect().left;
    this.readout.style.left = Math.max(8 - left, Math.min(document.documentElement.clientWidth - own - left - 8, wanted)) + "px";
    this.announce(lines);
  }

  hide() { this.cursor.hidden = this.readout.hidden = true; }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share < -0.02 || share > 1.02) return;
    this.show(nearest(this.steps, this.data.low + share * (this.data.high - this.data.low)));
  }

  key(event) {
    const page = Math.max(1, Math.round(this.steps.length / 10)), last = this.steps.length - 1;
    const to = { ArrowLeft: this.index - 1, ArrowDown: this.index - 1, ArrowRight: this.index + 1, ArrowUp: this.index + 1,
                 PageDown: this.index - page, PageUp: this.index + page, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.hide();
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.show(to);
  }
}

// A page that is opened from a file may not be allowed to remember anything.
const remember = (key, value) => {
  try {
    if (value === undefined) return localStorage.getItem("muonp-" + key);
    localStorage.setItem("muonp-" + key, value);
  } catch { /* then it does not */ }
  return null;
};

const theme = () => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  const kept = remember("theme");
  if (kept) root.dataset.theme = kept;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember("theme", root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();
};

// Not while somebody reads a curve, nor when the reader has paused it.
const refreshing = () => {
  const wanted = document.querySelector('meta[name="refresh-seconds"]');
  if (!wanted) return;
  const button = document.getElementById("pause");
  const paused = () => button.getAttribute("aria-pressed") === "true";
  button.hidden = false;
  button.setAttribute("aria-pressed", remember("paused") === "true");
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", !paused());
    remember("paused", paused());
  });
  setInterval(() => {
    const reading = document.activeElement && document.activeElement.matches(".plot");
    if (!paused() && !reading && !document.hidden) location.reload();
  }, 1000 * Number(wanted.content));
};

for (const plot of document.querySelectorAll(".plot")) new Reader(plot);
theme();
refreshing();
