// Elements, made in one line.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
}

// A number of steps: whole ones from ten on.
export function steps(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return "—";
  if (!Number.isFinite(number)) return "∞";
  return Math.abs(number) < 9.95 ? number.toFixed(1) : Math.round(number).toLocaleString("en");
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}
