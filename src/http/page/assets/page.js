// Refreshes the dashboard and draws the plot. Everything else works without JavaScript.
"use strict";

(() => {
  const REFRESH_INTERVAL_MS = 10_000;
  const live = document.getElementById("live");
  const lost = document.getElementById("lost");
  let plot = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Missing samples become a gap in the line.
  const withGaps = (columns, step) => {
    const [times, ...rest] = columns;
    const out = columns.map(() => []);
    times.forEach((time, i) => {
      if (i > 0 && time - times[i - 1] > 2 * step) {
        out[0].push(times[i - 1] + step);
        rest.forEach((_, k) => out[k + 1].push(null));
      }
      columns.forEach((column, k) => out[k].push(column[i]));
    });
    return out;
  };

  // The axes start at 0, and have only whole numbers of executions.
  const range = (_, __, max) => [0, Math.max(4, Math.ceil((max ?? 0) * 1.15))];
  const whole = (_, splits) => splits.map((v) => (Number.isInteger(v) ? v : ""));

  const options = (width, step, end) => {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: 240,
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { range: [end - 86_400, end] }, y: { range }, failed: { range } },
      axes: [
        { ...axis, values: [[3600, "{HH}:{mm}", null, null, null, null, null, null, 0]], space: 60 },
        { ...axis, values: whole, size: 40 },
        { ...axis, values: whole, size: 40, side: 1, scale: "failed", grid: { show: false }, stroke: colour("--bad") },
      ],
      series: [
        { label: "Time", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        { label: "Running", stroke: colour("--accent"), width: 2, fill: colour("--accent") + "22", points: { show: false } },
        { label: "Long-running", stroke: colour("--warn"), width: 2, points: { show: false } },
        {
          label: `Failed in ${step / 60} min`,
          scale: "failed",
          stroke: colour("--bad"),
          fill: colour("--bad") + "bb",
          paths: uPlot.paths.bars({ size: [1, 6], align: 1 }),
          points: { show: false },
        },
      ],
    };
  };

  const draw = () => {
    plot?.destroy();
    plot = null;
    const element = document.getElementById("plot");
    if (!element) return;
    const step = Number(element.dataset.step);
    const columns = withGaps(JSON.parse(element.dataset.columns), step);
    const end = Math.max(Date.now() / 1000, columns[0].at(-1) ?? 0);
    plot = new uPlot(options(element.clientWidth, step, end), columns, element);
    element.dataset.drawn = "yes";
  };

  // Replaces only the sections that differ, so that selection, scroll position and focus stay in the others.
  const update = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("live");
    // A copy, because inserting a section elsewhere removes it from `children`.
    for (const section of [...fresh.children]) {
      const old = document.getElementById(section.id);
      const plotElement = section.querySelector("#plot");
      const unchanged = plotElement
        ? document.getElementById("plot")?.dataset.columns === plotElement.dataset.columns
        : old.innerHTML === section.innerHTML;
      if (unchanged) continue;
      const inside = old.contains(document.activeElement) ? document.activeElement : null;
      const [left, label] = [old.querySelector(".scroll")?.scrollLeft, inside?.getAttribute("aria-label")];
      old.replaceWith(section);
      if (left) section.querySelector(".scroll")?.scrollTo(left, 0);
      if (inside?.id) document.getElementById(inside.id)?.focus();
      else if (label) section.querySelector(".scroll")?.focus();
      if (section.id === "history") draw();
    }
    document.title = fresh.dataset.title;
  };

  const setOutdated = (outdated) => {
    lost.hidden = !outdated;
    document.body.classList.toggle("outdated", outdated);
  };

  const refresh = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("/board" + location.search, { cache: "no-store", signal: AbortSignal.timeout(REFRESH_INTERVAL_MS) });
      // The token has expired: reloading shows the sign-in form.
      if (response.status === 401) return location.reload();
      if (!response.ok) return setOutdated(true);
      update(await response.text());
      setOutdated(false);
    } catch {
      setOutdated(true);
    }
  };

  draw();
  setInterval(refresh, REFRESH_INTERVAL_MS);
  document.addEventListener("visibilitychange", refresh);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => {
    const width = document.getElementById("plot")?.clientWidth;
    if (plot && width) plot.setSize({ width, height: 240 });
  }).observe(live);
})();
