// Documents: from the page itself when it was exported, else from the server that sent it.

const embedded = document.getElementById("content");
const kept = embedded && JSON.parse(embedded.textContent);

export const exported = kept !== null;

export async function get(path) {
  if (exported) {
    if (path in kept) return kept[path];
    throw new Error("This page was saved without that. Run farstep view to see it.");
  }
  return checked(await send(path));
}

// Lines of an answer as they come, each a JSON value.
export async function* stream(path, body, signal) {
  const answer = await send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) await checked(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("farstep view has ended: start it again and reload this page.");
  }
}

async function checked(answer) {
  const document = await answer.json().catch(() => null);
  if (answer.ok && document !== null) return document;
  throw new Error(document?.problem ?? `The server answered ${answer.status}.`);
}

const KINDS = {
  float32: Float32Array,
  int32: Int32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  float16: Uint16Array,
};

// The numbers of an encoded array; of float16 as float32.
export function decoded(array) {
  const text = atob(array.base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const numbers = new KINDS[array.type](bytes.buffer);
  if (array.type !== "float16") return numbers;
  const halves = halfTable();
  return Float32Array.from(numbers, (half) => halves[half]);
}

let table = null;

function halfTable() {
  if (table) return table;
  table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    table[half] =
      sign *
      (exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction
            ? NaN
            : Infinity
          : (1 + fraction / 1024) * 2 ** (exponent - 15));
  }
  return table;
}
