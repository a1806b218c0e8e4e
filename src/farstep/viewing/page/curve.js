// Curves, drawn by uPlot in the page's colours.

const HUES = ["#34449c", "#c8452f", "#2a8f63", "#a0711a", "#8c3aa3", "#3a8aa8", "#777777"];
const HUES_IN_THE_DARK = ["#9fb0ff", "#ff8f80", "#6fd3a6", "#e3b866", "#d79be8", "#7fcbe4", "#b0b0b0"];

const dark = window.matchMedia("(prefers-color-scheme: dark)");

export function hue(number) {
  const hues = dark.matches ? HUES_IN_THE_DARK : HUES;
  return hues[number % hues.length];
}

// `series`: {label, values, hue, dash, width, band: [low, high]}; values stand at `x`.
export function curve(room, { x, series, xLabel, yLabel, y = null, height = 260, atX = null, legend = true }) {
  const ink = getComputedStyle(document.body).getPropertyValue("--quiet");
  const line = getComputedStyle(document.body).getPropertyValue("--line");
  const data = [x];
  const drawn = [{ label: xLabel }];
  const bands = [];
  for (const one of series) {
    if (one.band) {
      for (const edge of one.band) {
        data.push(edge);
        drawn.push({ show: true, width: 0, points: { show: false }, label: "" });
      }
      bands.push({ series: [data.length - 1, data.length - 2], fill: `${one.hue}2e` });
    }
    data.push(one.values);
    drawn.push({
      label: one.label,
      stroke: one.hue,
      width: one.width ?? 2,
      dash: one.dash,
      spanGaps: true,
      points: { show: x.length < 2 },
      value: (_, value) => (value === null ? "—" : Number(value.toPrecision(4)).toLocaleString("en")),
    });
  }
  const axis = (label) => ({
    label, stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 },
    font: "12px system-ui", labelFont: "12px system-ui", labelSize: 22,
  });
  const marker = {
    hooks: {
      draw: (plot) => {
        const at = atX?.();
        if (at === null || at === undefined) return;
        const place = plot.valToPos(at, "x", true);
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.strokeStyle = hue(1);
        ctx.lineWidth = 1.5;
        ctx.beginPath();
        ctx.moveTo(place, bbox.top);
        ctx.lineTo(place, bbox.top + bbox.height);
        ctx.stroke();
        ctx.restore();
      },
    },
  };
  room.replaceChildren();
  const plot = new uPlot(
    {
      width: Math.max(280, room.clientWidth),
      height,
      scales: { x: { time: false }, y: y ? { range: y } : {} },
      padding: [null, 24, null, null],
      axes: [
        { ...axis(xLabel), space: 70, values: (_, numbers) => numbers.map(short) },
        { ...axis(yLabel), size: 56 },
      ],
      series: drawn,
      bands,
      cursor: { y: false },
      legend: { show: legend },
      plugins: [marker],
    },
    data,
    room,
  );
  // Edges of bands are no curves of their own.
  const listed = [...room.querySelectorAll(".u-series")];
  drawn.forEach((one, k) => {
    if (one.label === "") listed[k]?.remove();
  });
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width > 280 && width !== plot.width) plot.setSize({ width, height });
  }).observe(room);
  return plot;
}

function short(number) {
  if (Math.abs(number) >= 1e6) return `${number / 1e6}M`;
  return Math.abs(number) >= 1e4 ? `${number / 1e3}k` : String(number);
}
