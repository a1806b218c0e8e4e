// Runs: success with its spread over seeds, any metric, and how runs differ.

import { exported, get } from "farstep/content.js";
import { curve, hue } from "farstep/curve.js";
import { element, options, percent } from "farstep/dom.js";

const SECONDS = 5;

export async function showRuns(room) {
  const page = new RunsPage(room);
  await page.update();
}

class RunsPage {
  constructor(room) {
    this.room = room;
    this.content = room.querySelector(".content");
    this.chosen = null;
    this.select = element("select", { "aria-label": "Metric" });
    this.select.addEventListener("input", () => this.#metric());
  }

  async update() {
    const runs = await get("runs.json");
    // A click in between must not be lost, so the page stands still while nothing is new.
    const told = JSON.stringify(runs);
    if (told !== this.told) {
      this.told = told;
      this.#show(runs);
      await this.#metric();
    }
    this.room.querySelector(".status").hidden = true;
    this.content.hidden = false;
    if (!exported && runs.runs.some((run) => run.state === "training")) {
      setTimeout(() => this.#again(), 1000 * SECONDS);
    }
  }

  async #again() {
    if (document.hidden || this.room.hidden) {
      setTimeout(() => this.#again(), 1000 * SECONDS);
      return;
    }
    await this.update().catch((error) => {
      this.room.querySelector(".status").textContent = error.message;
      this.room.querySelector(".status").hidden = false;
    });
  }

  #show(runs) {
    this.runs = runs;
    const notes = [
      ...runs.problems.map((text) => element("li", { class: "problem" }, text)),
      ...runs.notes.map((text) => element("li", {}, text)),
    ];
    options(this.select, runs.metrics.map((name) => [name, name]));
    const usual = ["backup/loss", "critic/loss", "actor/loss"].find((name) => runs.metrics.includes(name));
    this.chosen = runs.metrics.includes(this.chosen) ? this.chosen : (usual ?? runs.metrics[0]);
    if (this.chosen) this.select.value = this.chosen;
    this.curves = element("div", {});
    this.metric = element("div", { class: "curve" });
    this.content.replaceChildren(
      element("ul", { class: "notes" }, ...notes),
      ...(runs.cells.length ? [element("h3", {}, "Success"), this.curves, cells(runs.cells)] : []),
      ...(runs.metrics.length ? [element("h3", {}, "Metrics"), element("div", { class: "row" }, this.select), this.metric] : []),
      element("h3", {}, "Runs"),
      list(runs.runs),
      ...(runs.differences.settings.length ? [element("h3", {}, "Settings that differ"), differences(runs.differences)] : []),
    );
    this.room.querySelector(".content").hidden = false;
    this.#success(runs.cells);
  }

  #success(cells) {
    for (const dataset of [...new Set(cells.map((cell) => cell.dataset))]) {
      const own = cells.filter((cell) => cell.dataset === dataset && cell.curve.updates.length);
      if (!own.length) continue;
      const x = [...new Set(own.flatMap((cell) => cell.curve.updates))].sort((a, b) => a - b);
      const at = (cell, values) => {
        const found = new Map(cell.curve.updates.map((update, k) => [update, values[k]]));
        return x.map((update) => found.get(update) ?? null);
      };
      const room = element("div", { class: "curve" });
      this.curves.append(element("p", { class: "quiet" }, dataset), room);
      curve(room, {
        x,
        xLabel: "updates",
        yLabel: "success",
        y: [0, 1],
        series: own.map((cell, k) => ({
          label: cell.method,
          values: at(cell, cell.curve.success),
          band: cell.curve.band && cell.curve.band.map((ends) => at(cell, ends)),
          hue: hue(k),
        })),
      });
    }
  }

  async #metric() {
    if (!this.runs.metrics.length) return;
    this.chosen = this.select.value;
    const { metric, curves } = await get(`metric.json?metric=${encodeURIComponent(this.chosen)}`);
    const x = [...new Set(curves.flatMap((one) => one.steps))].sort((a, b) => a - b);
    // Runs of one method share a colour.
    const methods = [...new Set(this.runs.runs.map((run) => `${run.agent} ${run.dataset}`))];
    const methodOf = new Map(this.runs.runs.map((run) => [run.name, methods.indexOf(`${run.agent} ${run.dataset}`)]));
    curve(this.metric, {
      x,
      xLabel: "updates",
      yLabel: metric,
      legend: curves.length <= 12,
      series: curves.map((one) => {
        const found = new Map(one.steps.map((step, k) => [step, one.values[k]]));
        return { label: one.name, values: x.map((step) => found.get(step) ?? null), hue: hue(methodOf.get(one.name) ?? 0), width: 1.5 };
      }),
    });
  }
}

const heads = (...names) => element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name))));

function table(head, rows) {
  const made = rows.map(([first, ...others]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...others.map((text) => element("td", {}, text))),
  );
  return element("div", { class: "scroll", tabindex: "0" }, element("table", {}, head, element("tbody", {}, ...made)));
}

function cells(cells) {
  const tasks = [...new Set(cells.flatMap((cell) => Object.keys(cell.tasks)))].sort((a, b) => a - b);
  return table(
    heads("Method", "Data", "Seeds", "Success", "95 % interval", "Published", "Best published", ...tasks.map((task) => `Task ${task}`)),
    cells.map((cell) => [
      cell.method,
      cell.dataset,
      String(cell.seeds.length),
      percent(cell.success),
      cell.interval ? cell.interval.map((end) => Math.round(100 * end)).join("–") : "—",
      cell.published ? `${percent(cell.published.success)} (${cell.published.source})` : "—",
      cell.best_published ? `${percent(cell.best_published.success)} (${cell.best_published.method})` : "—",
      ...tasks.map((task) => (task in cell.tasks ? percent(cell.tasks[task]) : "—")),
    ]),
  );
}

function list(runs) {
  const number = (n) => n.toLocaleString("en");
  return table(
    heads("Run", "Agent", "Data", "Seed", "Updates", "State"),
    runs.map((run) => [run.name, run.agent, run.dataset, String(run.seed), `${number(run.updates)} of ${number(run.of)}`, run.state]),
  );
}

function differences({ settings, runs, values }) {
  return table(heads("Run", ...settings), runs.map((name, k) => [name, ...values[k]]));
}
