"use strict";

// What is folded away is printed all the same, and an address that names a folded part opens it.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));

function unfold() {
  const found = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!found) return;
  for (let part = found; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  const why = found.nextElementSibling && found.nextElementSibling.querySelector("details");
  if (found.id.startsWith("gate-") && why) why.open = true;
}
addEventListener("hashchange", unfold);
unfold();
