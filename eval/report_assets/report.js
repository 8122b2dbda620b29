"use strict";
// Steps through the images. Without this script all of them stand one below the other, and the
// layers are switched by the style sheet alone.
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const slides = [...viewer.querySelectorAll(".slide")];
  const links = [...viewer.querySelectorAll(".list a")];
  const list = viewer.querySelector(".list");
  const position = document.getElementById("position");
  let current = 0;

  function show(index) {
    current = (index + slides.length) % slides.length;
    slides.forEach((slide, i) => { slide.hidden = i !== current; });
    links.forEach((link, i) => {
      if (i === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    position.textContent = slides[current].dataset.name;
    const link = links[current];
    const top = link.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + link.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }

  function isInView() {
    const box = viewer.getBoundingClientRect();
    return box.top < window.innerHeight && box.bottom > 0;
  }

  function numberOf(hash) {
    return slides.findIndex((slide) => `#${slide.id}` === hash);
  }

  document.getElementById("previous").addEventListener("click", () => show(current - 1));
  document.getElementById("next").addEventListener("click", () => show(current + 1));
  links.forEach((link, i) => link.addEventListener("click", (event) => {
    event.preventDefault();
    show(i);
  }));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    // A table that has the focus scrolls with the same keys.
    if (event.target.closest(".scroll") || !isInView()) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(current + step);
  });
  window.addEventListener("hashchange", () => {
    const index = numberOf(location.hash);
    if (index >= 0) show(index);
  });

  // On paper everything is open, and afterwards as it was.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

  viewer.classList.add("steps-on");
  show(Math.max(0, numberOf(location.hash)));
})();
