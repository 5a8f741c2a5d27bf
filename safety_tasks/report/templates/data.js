"use strict";

// A value that the page keeps compressed, by the id of its element; null where the page has none.
async function unpack(id) {
  const holder = document.getElementById(id);
  if (!holder) return null;
  const letters = atob(holder.textContent);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  const gzip = new DecompressionStream("gzip");
  const writer = gzip.writable.getWriter();
  Promise.all([writer.write(bytes), writer.close()]).catch(() => {}); // who reads meets the error
  return new Response(gzip.readable).json();
}

// Starts a part of the page with its data; where that cannot be read, the part's note says so.
function withData(id, start) {
  unpack(id)
    .then((data) => data && start(data))
    .catch((error) => {
      console.error(error);
      for (const note of document.querySelectorAll("[data-needs=" + id + "]")) note.hidden = false;
    });
}

// Control characters, direction marks, lone surrogates and what else has no shape of its own, as what they are.
const SHAPELESS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

function visible(text) {
  return text.replace(SHAPELESS, (found) => "⟨U+" + found.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
}

// An element with a class and children; texts stay texts.
function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

// What is said of a point of the landscape: parts of the page tell each other with these events.
function tell(event, detail) {
  document.dispatchEvent(new CustomEvent("llmsafety:" + event, { detail }));
}

function hear(event, listener) {
  document.addEventListener("llmsafety:" + event, (told) => listener(told.detail));
}

function signed(alpha) {
  const text = Math.abs(alpha).toFixed(3).replace(/\.?0+$/, "");
  return alpha > 0 ? "+" + text : alpha < 0 ? "−" + text : "0";
}
