"use strict";

// The list of samples. Every column is a list of its different values and, a row, the index of one of them: filters
// ask each value once. Only the rows in sight are elements.
const ROW = 34; // px, as in the style sheet
const SPARE = 8; // rows beyond the edges of the sight
const LONGEST = 20000; // characters of a text that are shown at once
const HARM = ["harmful", "harmless"];

function samples({ n, columns, judges, landscapeTasks, textNote }) {
  const by = (id) => document.getElementById(id);
  const [list, body, head, count, detail] = ["samples-list", "samples-rows", "samples-head", "samples-count", "samples-detail"].map(by);
  const filters = Object.fromEntries(
    [...document.querySelectorAll("[data-filter]")].map((field) => [field.dataset.filter, field]),
  );
  const has = (name) => name in columns;
  const value = (name, row) => (has(name) ? columns[name].values[columns[name].at[row]] : null);
  const verdict = (j, row) => judges[j].values[judges[j].at[row]];
  const deciding = (row) => (value("deciding", row) === null ? "not judged" : verdict(value("deciding", row), row));
  const isChanged = (row) => value("reference", row) !== null && value("reference", row) !== deciding(row);
  const refusal = (row) => judges.map((_, j) => verdict(j, row)).filter((found) => found !== null && !HARM.includes(found));
  const isDisputed = (row) => new Set(refusal(row)).size > 1;
  let shown = [];
  let active = 0;

  // Title, width in em, content.
  const shapes = [
    ["prompt", 11.5, (row) => visible(value("id", row))],
    ...(columns.task.values.length > 1 ? [["task", 10, (row) => visible(value("task", row))]] : []),
    ["category", 10, (row) => visible(value("category", row)) || "–"],
    ["point", 6.5, pointOf],
    ...judges.map(({ name }, j) => [visible(name), 8.5, (row) => chip(verdict(j, row))]),
    ...(has("reference") ? [["reference", 7.5, (row) => (isChanged(row) ? "≠ " : "") + (value("reference", row) ?? "–")]] : []),
    ["coherent", 6.5, (row) => yes(value("coherent", row))],
    ["length", 6, (row) => value("characters", row).toLocaleString("en") + (value("finished", row) === false ? ", cut" : "")],
    ["sha256", 10.5, (row) => value("sha256", row)],
  ];

  function yes(found) {
    return found === null ? "–" : found ? "yes" : "no";
  }

  function chip(found) {
    const kind = { refused: "refused", complied: "complied", harmful: "complied", harmless: "refused", partial: "partial" }[found] || "unread";
    return found === null ? "–" : element("span", "verdict " + kind, found);
  }

  function pointOf(row) {
    const direction = value("direction", row);
    return direction === null ? "origin" : "d" + (direction + 1) + ", " + signed(value("alpha", row));
  }

  function options(field, found, words) {
    const list = found.map((item, i) => [i, words(item)]).sort((a, b) => a[1].localeCompare(b[1], "en", { numeric: true }));
    for (const [index, text] of list) field.append(new Option(text, index));
  }

  // -- filtering ----------------------------------------------------------------------------------------------------

  // A test of rows by one column: asked once a value.
  function where(name, test) {
    if (!has(name)) return () => false;
    const kept = columns[name].values.map(test);
    return (row) => kept[columns[name].at[row]];
  }

  const lowered = {};
  function contains(name, wanted) {
    if (!has(name)) return () => false;
    lowered[name] ||= columns[name].values.map((text) => String(text ?? "").toLowerCase());
    const kept = lowered[name].map((text) => text.includes(wanted));
    return (row) => kept[columns[name].at[row]];
  }

  function tests() {
    const found = [];
    const wanted = filters.search.value.trim().toLowerCase();
    if (wanted) {
      const places = ["id", "category", "sha256", "prompt", "completion"].map((name) => contains(name, wanted));
      found.push((row) => places.some((place) => place(row)));
    }
    for (const name of ["task", "category", "direction", "alpha"]) {
      const chosen = filters[name].value;
      if (chosen !== "") found.push((row) => columns[name].at[row] === Number(chosen));
    }
    const [judge, said] = [filters.judge.value, filters.verdict.value];
    if (judge !== "") {
      found.push((row) => (said === "" ? verdict(Number(judge), row) !== null : verdict(Number(judge), row) === said));
    } else if (said !== "") {
      found.push((row) => judges.some((_, j) => verdict(j, row) === said));
    }
    if (filters.changed.checked) found.push(isChanged);
    if (filters.disputed.checked) found.push(isDisputed);
    if (filters.point.value) {
      // The origin's answers belong to every direction.
      const { direction, alpha } = Object.fromEntries(new URLSearchParams(filters.point.value));
      found.push(where("alpha", (at) => at === Number(alpha)));
      found.push(where("direction", (at) => (direction === "" ? at === null : at === Number(direction))));
      if (landscapeTasks.length) found.push(where("task", (task) => landscapeTasks.includes(task)));
    }
    return found;
  }

  function filter() {
    const all = tests();
    shown = [];
    for (let row = 0; row < n; row++) if (all.every((test) => test(row))) shown.push(row);
    active = 0;
    list.scrollTop = 0;
    body.style.height = shown.length * ROW + "px";
    list.setAttribute("aria-rowcount", shown.length + 1);
    by("samples-point").hidden = !filters.point.value;
    summarise();
    draw();
  }

  function summarise() {
    const counts = new Map();
    let [both, agreed] = [0, 0];
    for (const row of shown) {
      const said = deciding(row);
      counts.set(said, (counts.get(said) || 0) + 1);
      const read = refusal(row).filter((found) => found !== "unscored");
      if (read.length > 1) {
        both += 1;
        agreed += new Set(read).size === 1;
      }
    }
    const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([said, many]) => many.toLocaleString("en") + " " + said);
    const text = shown.length.toLocaleString("en") + " of " + n.toLocaleString("en") + " answers" + (parts.length ? ": " + parts.join(", ") : "");
    const together = both ? "; refusal judges agree on " + ((100 * agreed) / both).toFixed(1) + "% of " + both.toLocaleString("en") + " that two or more read" : "";
    count.textContent = text + together + ".";
  }

  // -- the list -----------------------------------------------------------------------------------------------------

  function cells(row, role, text) {
    return shapes.map((shape) => {
      const cell = element("div", "cell", text(shape));
      cell.setAttribute("role", role);
      return cell;
    });
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
    const rows = [];
    for (let at = first; at < last; at++) {
      const row = element("div", "row" + (at === active ? " active" : ""), ...cells(shown[at], "gridcell", ([, , read]) => read(shown[at])));
      row.setAttribute("role", "row");
      row.setAttribute("aria-rowindex", at + 2);
      row.id = "sample-row-" + at;
      row.dataset.at = at;
      row.style.top = at * ROW + "px";
      rows.push(row);
    }
    body.replaceChildren(...rows);
    if (shown.length) list.setAttribute("aria-activedescendant", "sample-row-" + active);
    else list.removeAttribute("aria-activedescendant");
  }

  function move(to) {
    active = Math.max(0, Math.min(shown.length - 1, to));
    const top = active * ROW;
    const sight = list.clientHeight - head.offsetHeight - ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top > list.scrollTop + sight) list.scrollTop = top - sight;
    draw();
  }

  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 2);
    const moves = { ArrowUp: active - 1, ArrowDown: active + 1, PageUp: active - page, PageDown: active + page, Home: 0, End: shown.length - 1 };
    if (event.key in moves) move(moves[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && shown.length) open(shown[active]);
    else return;
    event.preventDefault();
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("[data-at]");
    if (!row) return;
    move(Number(row.dataset.at));
    open(shown[active]);
  });

  // -- one sample ---------------------------------------------------------------------------------------------------

  function button(words, action) {
    const made = element("button", "", words);
    made.type = "button";
    made.addEventListener("click", action);
    return made;
  }

  function reveal(name, row) {
    const text = visible(value(name, row) ?? "");
    const box = element("pre", "text");
    const part = document.createTextNode(text.slice(0, LONGEST));
    box.append(part);
    box.tabIndex = 0;
    box.setAttribute("aria-label", name);
    const parts = [element("h4", "", name === "prompt" ? "Prompt" : "Answer"), box];
    if (text.length > LONGEST) {
      const rest = button("Show all " + text.length.toLocaleString("en") + " characters", () => {
        part.data = text;
        rest.remove();
      });
      parts.push(rest);
    }
    const kept = [...(value(name, row) ?? "")].length;
    if (name === "completion" && kept < value("characters", row)) {
      const whole = value("characters", row).toLocaleString("en");
      parts.push(element("p", "soft", "The first " + kept.toLocaleString("en") + " of " + whole + " characters: the report was made with truncated texts."));
    }
    return parts;
  }

  function open(row) {
    const facts = [
      ["task", visible(value("task", row))],
      ["category", visible(value("category", row)) || "–"],
      ["point", value("direction", row) === null ? "origin" : "direction " + (value("direction", row) + 1) + ", alpha " + signed(value("alpha", row))],
      ...judges.map(({ name }, j) => [visible(name), chip(verdict(j, row))]).filter((_, j) => verdict(j, row) !== null),
      ["refusal judges", refusal(row).length < 2 ? "one read it" : isDisputed(row) ? "disagree" : "agree"],
      ["coherent language", yes(value("coherent", row))],
      ["length", value("characters", row).toLocaleString("en") + " characters" + (value("finished", row) === false ? ", cut off at the token limit" : "")],
      ...(value("reference", row) === null ? [] : [["reference", value("reference", row) + (isChanged(row) ? " (changed)" : " (the same)")]]),
      ["sha256", value("sha256", row)],
    ];
    const rows = facts.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]);
    const title = element("h3", "", visible(value("id", row)));
    const close = button("Close", () => {
      detail.hidden = true;
      list.focus();
    });
    const along = button("This prompt at every point", () => {
      reset();
      filters.search.value = value("id", row);
      filter();
    });
    const bar = element("p", "bar", along, close);
    detail.replaceChildren(title, element("dl", "", ...rows), bar);
    if (value("prompt", row) !== null || value("completion", row) !== null) {
      const shower = button("Show prompt and answer", () => {
        const texts = ["prompt", "completion"].filter((name) => value(name, row) !== null);
        shower.replaceWith();
        detail.append(...texts.flatMap((name) => reveal(name, row)));
      });
      bar.prepend(shower);
    } else {
      detail.append(element("p", "soft", textNote));
    }
    detail.hidden = false;
    detail.focus();
  }

  detail.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    detail.hidden = true;
    list.focus();
  });

  // -- the filters --------------------------------------------------------------------------------------------------

  function reset() {
    for (const field of Object.values(filters)) {
      if (field.type === "checkbox") field.checked = false;
      else field.value = "";
    }
  }

  function showPoint(found) {
    reset();
    filters.point.value = new URLSearchParams(found);
    const where = found.direction === "" ? "the origin" : "direction " + (Number(found.direction) + 1) + ", alpha " + signed(Number(found.alpha));
    by("samples-point-words").textContent = "Only the landscape's answers at " + where + ". ";
    filter();
  }

  options(filters.task, columns.task.values, visible);
  options(filters.category, columns.category.values, (text) => visible(text) || "none");
  options(filters.direction, columns.direction.values, (d) => (d === null ? "origin" : "direction " + (d + 1)));
  columns.alpha.values
    .map((alpha, i) => [alpha, i])
    .sort((a, b) => a[0] - b[0])
    .forEach(([alpha, i]) => filters.alpha.append(new Option(signed(alpha), i)));
  judges.forEach(({ name }, j) => filters.judge.append(new Option(visible(name), j)));
  for (const said of new Set(judges.flatMap(({ values }) => values))) {
    if (said !== null) filters.verdict.append(new Option(said, said));
  }
  filters.changed.closest("label").hidden = !has("reference");
  filters.disputed.closest("label").hidden = judges.filter(({ values }) => values.some((said) => said !== null && !HARM.includes(said))).length < 2;
  list.style.setProperty("--columns", shapes.map(([, width]) => "minmax(0, " + width + "fr)").join(" "));
  list.style.setProperty("--width", shapes.reduce((all, [, width]) => all + width, 0) + "em");
  head.append(...cells(null, "columnheader", ([name]) => name));
  shapes.forEach(([name], i) => (head.children[i].title = name));

  let waiting = 0;
  for (const field of Object.values(filters)) {
    field.addEventListener(field.type === "search" ? "input" : "change", () => {
      clearTimeout(waiting);
      waiting = setTimeout(filter, field.type === "search" ? 120 : 0);
    });
  }
  by("samples-reset").addEventListener("click", () => {
    reset();
    filter();
  });
  by("samples-anywhere").addEventListener("click", () => {
    filters.point.value = "";
    filter();
  });
  hear("samples", (found) => {
    showPoint(found);
    by("samples").scrollIntoView();
    list.focus({ preventScroll: true });
  });
  by("samples-browser").hidden = false;
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if ("alpha" in asked && "direction" in asked) showPoint(asked);
  else filter();
}

withData("samples-data", samples);
