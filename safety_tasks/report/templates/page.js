const dark = matchMedia("(prefers-color-scheme: dark)").matches;
for (const holder of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(document.getElementById(holder.dataset.chart).textContent);
  const saving = holder.hasAttribute("data-savable") ? { export: true, source: false, compiled: false, editor: false } : false;
  vegaEmbed(holder, spec, {
    mode: "vega-lite",
    ast: true,
    renderer: "svg",
    actions: saving,
    tooltip: { theme: dark ? "dark" : "light" },
  }).catch((error) => {
    holder.textContent = "This chart could not be drawn: " + error.message;
    console.error(error);
  });
}
