"use strict";

// The strip: one row a prompt, one column an alpha, along one direction; sorted by where each prompt flips.
// The slider, a click on the strip and a click on a chart all choose the same point.
const VERDICTS = [
  { code: "r", words: "refused", color: [86, 180, 233] },
  { code: "c", words: "complied coherently", color: [213, 94, 0] },
  { code: "n", words: "complied incoherently", color: [153, 153, 153] },
  { code: "u", words: "unscored", color: [240, 228, 66] },
];

function flipsAt(row, origin, step) {
  let at = origin;
  while (row[at] === "r") at += step;
  return at < 0 || at >= row.length ? Infinity : Math.abs(at - origin);
}

function strip({ alphas, ids, directions }) {
  const origin = alphas.indexOf(0);
  const [slider, choice, canvas, cursor, mark, said, read, show, beside] = [
    "strip-alpha", "strip-direction", "strip-cells", "strip-cursor", "strip-row", "strip-said", "strip-read", "strip-show", "samples-beside",
  ].map((id) => document.getElementById(id));
  const state = { direction: 0, alpha: origin, prompt: 0, order: [] };

  function sort() {
    const rows = directions[state.direction];
    const keys = rows.map((row) => {
      const sides = [flipsAt(row, origin, -1), flipsAt(row, origin, 1)];
      return [Math.min(...sides), sides[0] + sides[1]];
    });
    // Two prompts that never flip compare as equal: Infinity - Infinity is NaN, hence ||.
    state.order = rows.map((_, i) => i).sort((a, b) => keys[a][0] - keys[b][0] || keys[a][1] - keys[b][1] || a - b);
  }

  function draw() {
    canvas.width = alphas.length;
    canvas.height = ids.length;
    const context = canvas.getContext("2d");
    const image = context.createImageData(alphas.length, ids.length);
    const colors = Object.fromEntries(VERDICTS.map(({ code, color }) => [code, color]));
    state.order.forEach((prompt, y) => {
      const row = directions[state.direction][prompt];
      for (let x = 0; x < alphas.length; x++) image.data.set([...colors[row[x]], 255], 4 * (y * alphas.length + x));
    });
    context.putImageData(image, 0, 0);
  }

  function describe() {
    const alpha = alphas[state.alpha];
    const rows = directions[state.direction];
    const counts = VERDICTS.map(({ code, words }) => [rows.filter((row) => row[state.alpha] === code).length, words]);
    const moved = rows.filter((row) => row[state.alpha] !== row[origin]).length;
    const parts = counts.filter(([n]) => n).map(([n, words]) => n + " " + words);
    const since = state.alpha === origin ? "" : "; " + moved + " differ from alpha 0";
    const where = element("strong", "", "Direction " + (state.direction + 1) + ", alpha " + signed(alpha) + ": ");
    said.replaceChildren(where, "of " + ids.length + " prompts " + parts.join(", ") + since + ".");
    slider.setAttribute("aria-valuetext", "alpha " + signed(alpha));
    const prompt = state.order[state.prompt];
    const row = rows[prompt];
    const words = VERDICTS.find(({ code }) => code === row[state.alpha]).words;
    const flips = [-1, 1].map((step) => flipsAt(row, origin, step)).map((steps, i) =>
      steps === Infinity ? null : signed(alphas[origin + (i ? steps : -steps)]));
    const told = flips[0] === "0" ? "not refused at alpha 0" : flips.every((flip) => flip === null)
      ? "refused at every alpha"
      : "first not refused at " + flips.filter((flip) => flip !== null).join(" and ");
    read.textContent = visible(ids[prompt]) + ": " + words + " here; " + told + ".";
    cursor.style.left = (100 * state.alpha) / alphas.length + "%";
    cursor.style.width = 100 / alphas.length + "%";
    mark.style.top = (100 * (state.prompt + 0.5)) / ids.length + "%";
    show.textContent = "Show the answers at alpha " + signed(alpha);
    if (beside) beside.hash = new URLSearchParams(point());
  }

  function point() {
    return { direction: state.alpha === origin ? "" : state.direction, alpha: alphas[state.alpha] };
  }

  function choose({ direction, alpha, prompt }) {
    if (direction !== undefined && direction !== state.direction) {
      state.direction = direction;
      sort();
      draw();
    }
    if (alpha !== undefined) state.alpha = Math.max(0, Math.min(alphas.length - 1, alpha));
    if (prompt !== undefined) state.prompt = Math.max(0, Math.min(ids.length - 1, prompt));
    slider.value = state.alpha;
    choice.value = state.direction;
    describe();
    tell("shown", { alpha: alphas[state.alpha], direction: state.direction });
  }

  function nearest(alpha) {
    return alphas.reduce((best, at, i) => (Math.abs(at - alpha) < Math.abs(alphas[best] - alpha) ? i : best), 0);
  }

  slider.max = alphas.length - 1;
  slider.style.setProperty("--cells", alphas.length);
  slider.addEventListener("input", () => choose({ alpha: Number(slider.value) }));
  choice.addEventListener("change", () => choose({ direction: Number(choice.value) }));
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    choose({
      alpha: Math.floor(((event.clientX - box.left) / box.width) * alphas.length),
      prompt: Math.floor(((event.clientY - box.top) / box.height) * ids.length),
    });
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: { alpha: state.alpha - 1 },
      ArrowRight: { alpha: state.alpha + 1 },
      ArrowUp: { prompt: state.prompt - 1 },
      ArrowDown: { prompt: state.prompt + 1 },
      Home: { alpha: 0 },
      End: { alpha: alphas.length - 1 },
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  show.addEventListener("click", () => beside || tell("samples", point()));
  hear("pick", ({ alpha, direction }) => choose({ alpha: nearest(alpha), direction }));
  sort();
  draw();
  choose({});
}

withData("strip-data", strip);
