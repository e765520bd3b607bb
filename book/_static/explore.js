// The explore page: what is chosen in the form is drawn by Bokeh, and said in words below.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const holder = document.getElementById("explore-data");
  if (!holder) return;
  const { measures, series } = JSON.parse(holder.textContent);
  const form = document.getElementById("explore-form");
  const summary = document.getElementById("explore-summary");
  const field = (name) => form.elements.namedItem(name);
  if (series.length === 0) {
    summary.textContent = "Nothing is measured yet. Measure something with: lrsc sweep synthetic --profile desk";
    return;
  }

  // A change offers what there is for it, and keeps the other choices where they still exist.
  const offer = (name, values, texts) => {
    const before = field(name).value;
    field(name).replaceChildren(
      ...values.map((value, i) => new Option((texts || values)[i], value)));
    if (values.includes(before)) field(name).value = before;
  };
  const unique = (values) => [...new Set(values)];

  const chosen = (asked) => {
    offer("dataset", unique(series.map((s) => s.dataset)));
    if (asked.dataset) field("dataset").value = asked.dataset;
    const ofData = series.filter((s) => s.dataset === field("dataset").value);
    offer("model", unique(ofData.map((s) => s.model)));
    if (asked.model) field("model").value = asked.model;
    const ofModel = ofData.filter((s) => s.model === field("model").value);
    offer("runs", ofModel.map((s) => s.label));
    if (asked.runs) field("runs").value = asked.runs;
    const one = ofModel.find((s) => s.label === field("runs").value) || ofModel[0];
    const names = Object.keys(measures).filter((name) => name in one.values);
    offer("metric", names, names.map((name) => measures[name].label));
    if (asked.metric) field("metric").value = asked.metric;
    if (asked.scale) field("scale").value = asked.scale;
    return one;
  };

  const byRate = (one, name) => {
    const rates = unique(one.lr).sort((a, b) => a - b);
    return rates.map((rate) => {
      const all = one.values[name].filter((value, i) => one.lr[i] === rate);
      const values = all.filter((value) => value !== null);
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const squares = values.reduce((a, b) => a + (b - mean) ** 2, 0);
      const sd = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
      return { rate, mean, sd, runs: values.length, of: all.length };
    });
  };
  const number = (value) => String(Number(value.toPrecision(3)));

  const draw = (one, name, points) => {
    const { label, colour, percent } = measures[name];
    const known = points.filter((p) => p.runs > 0);
    const figure = Bokeh.Plotting.figure({
      x_axis_type: field("scale").value, height: 380, sizing_mode: "stretch_width",
      x_axis_label: "learning rate", y_axis_label: percent ? `${label} (%)` : label,
      tools: "", toolbar_location: null, // a phone scrolls the page, not the figure
      background_fill_color: "#ffffff", border_fill_color: "#ffffff",
    });
    for (const axis of [figure.xaxis, figure.yaxis]) {
      axis.axis_label_text_font_size = "15px";
      axis.axis_label_text_font_style = "normal";
      axis.axis_label_text_color = axis.major_label_text_color = "#222222";
      axis.major_label_text_font_size = "14px";
    }
    const x = known.map((p) => p.rate);
    figure.varea({
      x, y1: known.map((p) => p.mean - p.sd), y2: known.map((p) => p.mean + p.sd),
      fill_color: colour, fill_alpha: 0.18,
    });
    figure.line({ x, y: known.map((p) => p.mean), line_color: colour, line_width: 2.5 });
    const runs = one.lr.map((rate, i) => i).filter((i) => one.values[name][i] !== null);
    const at = (kept) => ({
      x: kept.map((i) => one.lr[i]), y: kept.map((i) => one.values[name][i]),
    });
    figure.scatter({ ...at(runs), size: 8, fill_color: colour, line_color: "#ffffff" });
    const collapsed = runs.filter((i) => one.status[i] === "collapsed");
    figure.scatter({ ...at(collapsed), size: 15, fill_alpha: 0, line_color: "#000000" });
    const place = document.getElementById("explore-figure");
    place.replaceChildren();
    Bokeh.Plotting.show(figure, place);
  };

  const say = (one, name, points) => {
    const { label, percent } = measures[name];
    const unit = percent ? " %" : "";
    const known = points.filter((p) => p.runs > 0);
    const lost = one.status.filter((s) => s === "diverged").length;
    const fallen = one.status.filter((s) => s === "collapsed").length;
    const [first, last] = [known[0], known[known.length - 1]];
    const best = known.reduce((a, b) => (b.mean > a.mean ? b : a));
    const spread = Math.max(...known.map((p) => p.sd));
    const text = [
      `${one.dataset}, ${one.model}: ${label.toLowerCase()}`,
      known.length > 1
        ? ` goes from ${number(first.mean)}${unit} at learning rate ${first.rate} to ` +
          `${number(last.mean)}${unit} at ${last.rate}, and is highest at ${best.rate}: ` +
          `${number(best.mean)}${unit}.`
        : ` is ${number(first.mean)}${unit} at learning rate ${first.rate}.`,
      ` Line: mean over seeds; band: one standard deviation, at most ${number(spread)}${percent ? " points" : ""};`,
      ` dots: ${one.lr.length - lost} single runs on ${one.n_train.toLocaleString("en")} training samples.`,
      lost ? ` ${lost} more diverged and have no value.` : "",
      fallen ? ` ${fallen} collapsed (ringed).` : "",
      ` Runs: ${one.label}.`,
    ];
    summary.textContent = text.join("");
  };

  const list = (one, name) => {
    const { label, percent } = measures[name];
    const row = (cells, kind) => {
      const line = document.createElement("tr");
      line.append(...cells.map((text) => {
        const cell = document.createElement(kind);
        if (kind === "th") cell.scope = "col";
        cell.textContent = text;
        return cell;
      }));
      return line;
    };
    const table = document.getElementById("explore-table");
    const heads = ["Learning rate", "Seed", percent ? `${label} (%)` : label, "Status"];
    table.tHead.replaceChildren(row(heads, "th"));
    table.tBodies[0].replaceChildren(...one.lr.map((rate, i) => row([
      rate, one.seed[i], one.values[name][i] === null ? "none" : number(one.values[name][i]),
      one.status[i],
    ], "td")));
  };

  const show = (asked) => {
    const one = chosen(asked);
    const name = field("metric").value;
    const points = byRate(one, name);
    draw(one, name, points);
    say(one, name, points);
    list(one, name);
  };

  // The choice stands in the address, so that it can be passed on.
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  show(asked);
  form.addEventListener("change", () => {
    show({});
    history.replaceState(null, "", `#${new URLSearchParams(new FormData(form))}`);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
});
