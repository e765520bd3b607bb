// The explore page: the curves that are chosen are drawn by Bokeh, listed, and said in words below.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const holder = document.getElementById("explore-data");
  if (!holder) return;
  const { measures, series } = JSON.parse(holder.textContent);
  const at = (id) => document.getElementById(`explore-${id}`);
  const form = at("form");
  const field = (name) => form.elements.namedItem(name);
  if (series.length === 0) {
    at("summary").textContent = "Nothing is measured yet. Measure something with: lrsc sweep synthetic --profile desk";
    return;
  }
  const MOST = 6;
  const MARKERS = ["circle", "square", "triangle", "diamond", "inverted_triangle", "star"];
  const SIGNS = ["●", "■", "▲", "◆", "▼", "★"];
  const COLOURS = { // each is legible on the ground of its theme
    light: ["#0072b2", "#c44e00", "#007a5a", "#a8488a", "#7a6200", "#444444"],
    dark: ["#56b4e9", "#ff9e5e", "#3ddc97", "#e8a3cb", "#f0c419", "#dddddd"],
  };
  const colours = () => COLOURS[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];
  const unique = (values) => [...new Set(values)];
  const name = (one) => `${one.dataset}, ${one.model}, ${one.label}`;
  let kept = [];

  // A change offers what there is for it, and keeps the other choices where they still exist.
  const offer = (select, values, wanted, texts) => {
    const before = wanted ?? field(select).value;
    field(select).replaceChildren(
      ...values.map((value, i) => new Option((texts || values)[i], value)));
    if (values.includes(before)) field(select).value = before;
    return field(select).value;
  };

  const chosen = (asked) => {
    const dataset = offer("dataset", unique(series.map((s) => s.dataset)), asked.dataset);
    const ofData = series.filter((s) => s.dataset === dataset);
    const model = offer("model", unique(ofData.map((s) => s.model)), asked.model);
    const ofModel = ofData.filter((s) => s.model === model);
    const runs = offer("runs", ofModel.map((s) => s.label), asked.runs);
    const one = ofModel.find((s) => s.label === runs);
    const names = Object.keys(measures).filter((key) => key in one.values);
    offer("metric", names, asked.metric, names.map((key) => measures[key].label));
    if (asked.scale) field("scale").value = asked.scale;
    return one;
  };

  const byRate = (one, metric) => unique(one.lr).sort((a, b) => a - b).map((rate) => {
    const values = (one.values[metric] || []).filter((v, i) => one.lr[i] === rate && v !== null);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const squares = values.reduce((a, b) => a + (b - mean) ** 2, 0);
    return { rate, mean, sd: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0 };
  }).filter((point) => !Number.isNaN(point.mean));
  const number = (value) => String(Number(value.toPrecision(3)));

  const draw = (curves, metric) => {
    const { label, percent } = measures[metric];
    const text = getComputedStyle(document.body).color;
    const figure = Bokeh.Plotting.figure({
      x_axis_type: field("scale").value, height: 380, sizing_mode: "stretch_width",
      x_axis_label: "learning rate", y_axis_label: percent ? `${label} (%)` : label,
      tools: "", toolbar_location: null, // a phone scrolls the page, not the figure
      background_fill_color: null, border_fill_color: null, outline_line_color: "#888888",
    });
    for (const axis of [figure.xaxis, figure.yaxis]) {
      axis.axis_label_text_font_size = "15px";
      axis.axis_label_text_font_style = "normal";
      axis.axis_label_text_color = axis.major_label_text_color = axis.axis_line_color = text;
      axis.major_tick_line_color = text;
      axis.minor_tick_line_color = null;
      axis.major_label_text_font_size = "14px";
    }
    for (const grid of [figure.xgrid, figure.ygrid]) {
      grid.grid_line_color = "#888888";
      grid.grid_line_alpha = 0.25;
    }
    curves.forEach((one, k) => {
      const [points, colour] = [byRate(one, metric), colours()[k]];
      const x = points.map((p) => p.rate);
      figure.varea({
        x, y1: points.map((p) => p.mean - p.sd), y2: points.map((p) => p.mean + p.sd),
        fill_color: colour, fill_alpha: 0.15,
      });
      figure.line({ x, y: points.map((p) => p.mean), line_color: colour, line_width: 2.5 });
      const values = one.values[metric] || [];
      const runs = values.map((v, i) => i).filter((i) => values[i] !== null);
      const places = (some) => ({ x: some.map((i) => one.lr[i]), y: some.map((i) => values[i]) });
      figure.scatter({
        ...places(runs), size: 9, marker: MARKERS[k], fill_color: colour, line_color: colour,
      });
      const collapsed = runs.filter((i) => one.status[i] === "collapsed");
      figure.scatter({ ...places(collapsed), size: 16, fill_alpha: 0, line_color: text });
    });
    at("figure").replaceChildren();
    Bokeh.Plotting.show(figure, at("figure"));
  };

  const element = (kind, text, more) => Object.assign(
    document.createElement(kind), { textContent: text }, more);

  const list = (curves) => at("curves").replaceChildren(...curves.map((one, k) => {
    const sign = element("span", SIGNS[k], { ariaHidden: "true" });
    sign.style.color = colours()[k];
    const line = element("li", "");
    line.append(sign, ` ${name(one)} `);
    if (kept.includes(one)) {
      const remove = element("button", "Remove", {
        type: "button", className: "btn btn-sm btn-outline-secondary",
        ariaLabel: `Remove ${name(one)}`,
        onclick: () => { kept = kept.filter((other) => other !== one); show({}); field("runs").focus(); },
      });
      line.append(remove);
    }
    return line;
  }));

  const sentence = (one, metric) => {
    const unit = measures[metric].percent ? " %" : "";
    const points = byRate(one, metric);
    const count = (status) => one.status.filter((s) => s === status).length;
    const [first, last] = [points[0], points[points.length - 1]];
    const best = points.reduce((a, b) => (b.mean > a.mean ? b : a), first);
    return [
      !first ? "no value" : `${number(first.mean)}${unit} at learning rate ${first.rate}`,
      points.length > 1 ? `, ${number(last.mean)}${unit} at ${last.rate}` : "",
      points.length > 2 && best !== first && best !== last ? `, highest at ${best.rate}: ${number(best.mean)}${unit}` : "",
      `; ${one.lr.length} run${one.lr.length > 1 ? "s" : ""}`,
      count("diverged") ? `, of which ${count("diverged")} diverged and have no value` : "",
      count("collapsed") ? `, ${count("collapsed")} collapsed (ringed)` : "",
      ".",
    ].join("");
  };

  const table = (curves, metric) => {
    const { label, percent } = measures[metric];
    const row = (cells, kind) => {
      const line = element("tr", "");
      line.append(...cells.map((text) => element(kind, text, kind === "th" ? { scope: "col" } : {})));
      return line;
    };
    const heads = ["Curve", "Learning rate", "Seed", percent ? `${label} (%)` : label, "Status"];
    at("table").tHead.replaceChildren(row(heads, "th"));
    at("table").tBodies[0].replaceChildren(...curves.flatMap((one, k) => one.lr.map((rate, i) => {
      const value = (one.values[metric] || [])[i] ?? null;
      const shown = value === null ? "none" : number(value);
      return row([k + 1, rate, one.seed[i], shown, one.status[i]], "td");
    })));
  };

  // What is chosen is one more curve beside those that are kept.
  const show = (asked) => {
    const one = chosen(asked);
    const curves = unique([...kept, one]);
    const metric = field("metric").value;
    at("keep").disabled = kept.includes(one) || kept.length >= MOST - 1;
    draw(curves, metric);
    list(curves);
    table(curves, metric);
    const each = curves.map((c, k) => (curves.length > 1 ? `${k + 1}: ` : "") + sentence(c, metric));
    at("summary").textContent = `${measures[metric].label}. ${each.join(" ")} Lines: means over seeds; ` +
      "bands: one standard deviation; symbols: single runs.";
    // The choice stands in the address, so that it can be passed on.
    const address = new URLSearchParams(new FormData(form));
    kept.forEach((c) => address.append("keep", name(c)));
    if (!("first" in asked)) history.replaceState(null, "", `#${address}`);
  };

  const address = new URLSearchParams(location.hash.slice(1));
  kept = address.getAll("keep").map((text) => series.find((s) => name(s) === text))
    .filter(Boolean).slice(0, MOST - 1);
  show({ ...Object.fromEntries(address), first: true });
  form.addEventListener("change", () => show({}));
  form.addEventListener("submit", (event) => event.preventDefault());
  at("keep").addEventListener("click", () => {
    const one = series.find((s) => s.dataset === field("dataset").value &&
      s.model === field("model").value && s.label === field("runs").value);
    kept = [...kept, one];
    show({});
  });
  new MutationObserver(() => show({ first: true })).observe(
    document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
});
