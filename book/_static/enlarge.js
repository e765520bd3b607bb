// Every figure of an article can be enlarged: a click or Enter opens it, Escape or a click closes it.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector("article");
  if (!article || !window.HTMLDialogElement) return; // without it a link opens the image itself

  // Images of prose pages get the link that figures of notebooks have.
  for (const image of article.querySelectorAll("img:not(a img):not(.figure-index img)")) {
    const link = document.createElement("a");
    link.href = image.src;
    link.className = "enlarge";
    image.replaceWith(link);
    link.append(image);
  }

  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  const picture = document.createElement("img");
  dialog.append(close, picture);
  document.body.append(dialog);
  dialog.addEventListener("click", () => dialog.close());

  for (const link of article.querySelectorAll("a.enlarge")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab of its own
      event.preventDefault();
      const image = link.querySelector("img");
      picture.src = link.href;
      picture.alt = image.alt;
      picture.className = image.className;
      dialog.showModal();
    });
  }
});
