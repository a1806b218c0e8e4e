// The pages, one of which is shown at a time: the one that the address names after #.

import { get } from "farstep/content.js";
import { element } from "farstep/dom.js";
import { showMap } from "farstep/map.js";
import { showData } from "farstep/data.js";
import { showRuns } from "farstep/runs.js";

const PAGES = {
  map: ["Distances and ways", showMap],
  data: ["Data", showData],
  runs: ["Runs", showRuns],
};

const problem = document.getElementById("problem");
const begun = new Set();

async function begin() {
  const view = await get("view.json");
  document.getElementById("title").textContent = view.title;
  document.title = `${view.title} · farstep`;
  document.querySelector("nav").replaceChildren(
    ...view.pages.map((page) => element("a", { href: `#${page}` }, PAGES[page][0])),
  );
  const turn = () => {
    const page = location.hash.slice(1);
    open(view.pages.includes(page) ? page : view.pages[0], view);
  };
  window.addEventListener("hashchange", turn);
  turn();
}

async function open(page, view) {
  problem.hidden = true;
  for (const name of Object.keys(PAGES)) document.getElementById(name).hidden = name !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (begun.has(page)) return;
  begun.add(page);
  const room = document.getElementById(page);
  try {
    await PAGES[page][1](room, view);
  } catch (error) {
    begun.delete(page);
    room.hidden = true;
    say(error);
  }
}

function say(error) {
  problem.textContent = error.message;
  problem.hidden = false;
}

begin().catch(say);
