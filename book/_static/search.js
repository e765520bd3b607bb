// Excerpts of search results: from a page's text, not from the buttons above it (".ipynb").
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return; // which the search page alone has
  Search.htmlToText = (markup, anchor) => {
    const page = new DOMParser().parseFromString(markup, "text/html");
    page.querySelectorAll(".headerlink, script, style").forEach((each) => each.remove());
    const article = page.querySelector("article.bd-article");
    const part = (anchor && article?.querySelector(anchor)) || article;
    return part ? part.textContent.replace(/\s+/g, " ").trim() : "";
  };
});
