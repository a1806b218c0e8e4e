// Data: an episode's curves and frames, states near a chosen one, and episodes that look wrong.

import { exported, get } from "farstep/content.js";
import { curve, hue } from "farstep/curve.js";
import { element, options, steps } from "farstep/dom.js";

const PICTURES = 8;

export async function showData(room) {
  const page = new DataPage(room, await get("data.json"));
  room.querySelector(".status").hidden = true;
  room.querySelector(".content").hidden = false;
  await page.open(0);
}

class DataPage {
  constructor(room, data) {
    this.data = data;
    const number = (n) => n.toLocaleString("en");
    this.split = element("select", { "aria-label": "Split" });
    this.number = element("input", { type: "number", min: "0", value: "0", "aria-label": "Episode" });
    this.step = element("input", { type: "range", min: "0", value: "0", "aria-label": "Step of the episode" });
    this.output = element("output", {});
    this.frames = element("div", { class: "frames" });
    this.curves = element("div", {});
    this.near = element("div", {});
    this.findings = element("div", {}, element("p", { class: "quiet" }, "Reading all episodes…"));
    options(this.split, data.splits.map(({ split }) => [split, split]));
    this.split.addEventListener("input", () => this.open(0));
    this.number.addEventListener("change", () => this.open(Number(this.number.value)));
    this.step.addEventListener("input", () => this.#at());
    const find = element("button", { type: "button", onclick: () => this.#nearest() }, "Nearest states");
    find.hidden = !data.distances;
    // Until there is an episode, nothing can be asked of it.
    this.controls = [this.step, find];
    for (const control of this.controls) control.disabled = true;
    room.querySelector(".content").replaceChildren(
      element("p", {}, element("strong", {}, data.name), ` · ${data.observations}`, data.environment ? ` · ${data.environment}` : ""),
      element("ul", { class: "quiet" }, ...data.splits.map((one) =>
        element("li", {}, `${one.split}: ${number(one.episodes)} episodes of ${number(one.shortest)} to ${number(one.longest)} steps, ${number(one.steps)} in all`))),
      element("div", { class: "row" }, this.split, element("label", { class: "row" }, "Episode ", this.number), this.step, this.output, find),
      this.frames,
      this.near,
      this.curves,
      element("h3", {}, "Episodes that look wrong"),
      this.findings,
    );
    if (!exported) this.#check();
  }

  async open(episode, step = 0) {
    this.number.max = this.data.splits.find(({ split }) => split === this.split.value).episodes - 1;
    this.number.value = episode;
    this.near.replaceChildren();
    try {
      this.episode = await get(`episode.json?split=${this.split.value}&episode=${episode}`);
    } catch (error) {
      this.output.textContent = error.message;
      return;
    }
    for (const control of this.controls) control.disabled = false;
    this.step.max = this.episode.length - 1;
    this.step.value = step;
    this.#draw();
    this.#at();
  }

  get row() {
    return this.episode.first + Number(this.step.value);
  }

  #at() {
    this.output.textContent = `step ${this.step.value} of ${this.episode.length - 1}`;
    this.frames.replaceChildren(...this.data.cameras.map((camera) => this.#frame(this.row, camera, camera)));
    for (const plot of this.plots) plot.redraw(false);
  }

  #frame(row, camera, caption) {
    const source = `frame.png?split=${this.split.value}&row=${row}&camera=${encodeURIComponent(camera)}`;
    return element("figure", {}, element("img", { src: source, alt: `${camera} at row ${row}`, height: "160" }), element("figcaption", {}, caption));
  }

  #draw() {
    const { steps: x, curves, distances } = this.episode;
    const rooms = [];
    const draw = [];
    const add = (title, series, yLabel) => {
      if (!series.length) return;
      const room = element("div", { class: "curve" });
      rooms.push(element("h3", {}, title), room);
      draw.push(() => curve(room, { x, series, xLabel: "step of the episode", yLabel, height: 200, atX: () => Number(this.step.value) }));
    };
    const own = Object.entries(distances).map(([name, values], k) => ({ label: name, values, hue: hue(k) }));
    const left = { label: "steps left", values: x.map((step) => this.episode.length - 1 - step), hue: hue(6), dash: [3, 4], width: 1.5 };
    add("Distance to the episode's end", own.length ? [left, ...own] : [], "environment steps");
    const columns = (values) => values.map((column, k) => ({ label: String(k), values: column, hue: hue(k), width: 1.3 }));
    add("Observations", columns(curves.observations ?? []), "units of the data");
    add("Actions", columns(curves.actions), "units of the data");
    this.curves.replaceChildren(...rooms);
    this.plots = draw.map((one) => one());
  }

  async #nearest() {
    let nearest;
    try {
      ({ nearest } = await get(`nearest.json?split=${this.split.value}&row=${this.row}`));
    } catch (error) {
      this.near.replaceChildren(element("p", { class: "problem" }, error.message));
      return;
    }
    this.near.replaceChildren(...Object.entries(nearest).flatMap(([name, states]) => [
      element("h3", {}, `Nearest to step ${this.step.value} of episode ${this.number.value}, by ${name}`),
      element("div", { class: "frames" }, ...states.slice(0, PICTURES).map((state) => {
        const text = `${steps(state.there)} steps to here, ${steps(state.back)} back`;
        const go = element("button", { type: "button", onclick: () => this.open(state.episode, state.step) }, `episode ${state.episode}, step ${state.step}`);
        const frames = this.data.cameras.slice(0, 1).map((camera) => this.#frame(state.row, camera, ""));
        return element("div", {}, ...frames, go, element("p", { class: "quiet" }, text));
      })),
    ]));
  }

  async #check() {
    try {
      const { findings } = await get("findings.json");
      const rows = findings.map((one) => element("li", {},
        element("button", { type: "button", onclick: () => this.#turn(one) }, `${one.split} ${one.episode}`),
        ` ${one.rule}: ${one.what}. `, element("span", { class: "quiet" }, one.why)));
      this.findings.replaceChildren(rows.length ? element("ul", {}, ...rows) : element("p", {}, "None."));
    } catch (error) {
      this.findings.replaceChildren(element("p", { class: "problem" }, error.message));
    }
  }

  #turn(finding) {
    this.split.value = finding.split;
    this.open(finding.episode, finding.step ?? 0);
    this.split.scrollIntoView();
  }
}
