"use strict";
/* Draws every figure of the document from the data that stands beside its place, in the colors of the document. */
(function () {
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    plotlyServerURL: "",
    toImageButtonOptions: { format: "svg", filename: "poisonlab_figure" },
  };

  function ink() {
    return getComputedStyle(document.body).color;
  }

  function draw(place) {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    figure.layout.font = Object.assign({}, figure.layout.font, { color: ink() });
    return Plotly.react(place, figure.data, figure.layout, config);
  }

  function drawAll() {
    document.querySelectorAll(".drawing").forEach(draw);
  }

  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("print").addEventListener("change", drawAll);
})();
