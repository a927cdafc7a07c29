// The interactive view: NiiVue draws the scan, a lesion's map and outlines, a picture per channel.

const element = (id) => document.getElementById(id);
const read = (id) => JSON.parse(element(id).textContent);
const form = element("view-controls").elements;
const say = (text) => { element("view-state").textContent = text; };
const data = read("view-data");
const { lesions, layers, colours } = data;
const steps = { n: 1, p: -1 };
const grades = { 1: "good", 2: "doubtful", 3: "wrong", 0: "" };
const moves = {
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
  PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};  // the patient's left is on the right

const figure = (value) => Number(value.toPrecision(4)).toString().replaceAll("-", "−");
const title = ({ label, kind }) => (data.whole ? "All segmented voxels" : `${label} (${kind})`);
const option = (text, value) => new Option(text, value);

/* The library and the volumes come from the page itself. */

async function library() {
  const source = URL.createObjectURL(new Blob([read("view-library")], { type: "text/javascript" }));
  try {
    return await import(source);
  } finally {
    URL.revokeObjectURL(source);
  }
}

async function content(name) {
  const held = element(name);
  const packed = held ? Uint8Array.from(atob(held.textContent), (letter) => letter.charCodeAt(0)) : await fetched(name);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function fetched(name) {
  const answer = await fetch(name).catch(() => null);
  if (answer?.ok) return answer.arrayBuffer();
  throw new Error(`${name.replace(/^(\.\.\/)+/, "")} cannot be loaded; it was in ${data.place}`);
}

if (!document.createElement("canvas").getContext("webgl2")) {
  say("This browser cannot draw the interactive view: it has no WebGL 2, or it is turned off. The pictures show the same maps.");
} else {
  start().catch(failed);
}

function failed(error) {
  element("view-body").hidden = true;
  say(`The interactive view could not be drawn: ${error.message}. The pictures show the same maps.`);
}

async function start() {
  const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, COLORMAP_TYPE } = await library();
  // Limits of colours are given, so that NiiVue need not find some.
  const load = async (name, limits = [0, 1]) =>
    name === null ? null : NVImage.new(await content(name), `${name}.nii`, "gray", 1, null, ...limits);
  let chosen = -1;
  let turn = 0;  // of what is drawn; what was asked for before is dropped

  element("view-body").hidden = false;
  lesions.forEach((lesion, place) => form.lesion.append(option(title(lesion), place)));
  layers.forEach(({ name }, place) => form.layer.append(option(name, place)));

  /* Pictures, one per channel, with one crosshair */

  const canvases = [...document.querySelectorAll(".panel canvas")];
  const panels = await Promise.all(canvases.map(async (canvas, channel) => {
    const niivue = new Niivue({
      logLevel: "error", backColor: colours.paper, crosshairColor: colours.crosshair, crosshairWidth: 0.4, crosshairWidthUnit: "mm",
      crosshairGap: 4, show3Dcrosshair: true, isRadiologicalConvention: true, dragAndDropEnabled: false,
      clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", isNearestInterpolation: true,
      sliceType: SLICE_TYPE.MULTIPLANAR, multiplanarShowRender: SHOW_RENDER.ALWAYS, multiplanarLayout: 2,
      loadingText: "",
    });
    await niivue.attachToCanvas(canvas, false);
    niivue.addColormap("positive", colours.positive);
    niivue.addColormap("negative", colours.negative);
    niivue.addColormap("outlines", colours.outlines);
    const scan = await load(data.channels[channel].volume, [NaN, NaN]);
    const outlines = await load(data.outlines, [0.5, 2]);
    if (outlines) outlines.colormap = "outlines";
    return { niivue, canvas, scan, outlines, map: null };
  }));
  const labels = await load(data.labels);
  const around = await load(data.outlines);
  const shown = panels.filter(({ scan }) => scan);
  if (!shown.length) throw new Error("the scan is 0 everywhere");
  shown.forEach(({ niivue }) => {
    niivue.broadcastTo(shown.map((each) => each.niivue).filter((other) => other !== niivue), { "2d": true, "3d": true });
    niivue.onLocationChange = ({ mm }) => values(mm, "At the crosshair");
  });
  const crosshair = () => {
    const { niivue } = shown[0];
    return [...niivue.frac2mm(niivue.scene.crosshairPos, 0, true)].slice(0, 3);
  };

  /* Values at a place in world coordinates, from the volumes themselves */

  function at(image, mm) {
    if (!image) return 0;
    const [x, y, z] = image.mm2vox(mm);
    const [, width, height, depth] = image.dimsRAS;
    const inside = x >= 0 && y >= 0 && z >= 0 && x < width && y < height && z < depth;
    return inside ? image.getValue(x, y, z) : 0;
  }

  function values(mm, where) {
    const table = element("view-values");
    const [x, y, z] = mm;
    const label = at(labels, mm);
    const inside = label && !data.whole ? `, in lesion ${label}` : "";
    table.caption.textContent = `${where}: x ${figure(+x.toFixed(1))}, y ${figure(+y.toFixed(1))}, z ${figure(+z.toFixed(1))} mm${inside}`;
    panels.forEach((panel, channel) => {
      const [, intensity, value] = table.tBodies[0].rows[channel].cells;
      intensity.textContent = figure(at(panel.scan, mm));
      value.textContent = figure(at(panel.map, mm));
    });
  }

  /* What is drawn over the scan */

  const layer = () => layers[form.layer.value];
  const mapsOf = (lesion) => layer().maps[lesion.label] ?? layer().maps[""] ?? [];
  const limit = () => {
    const own = Math.max(0, ...mapsOf(lesions[chosen]).map(({ peak }) => peak));
    return (form.range.value === "own" ? own : layer().limit) || 1;
  };

  function draw(place = null) {
    const highest = limit();
    const lowest = highest * form.threshold.value / 100;
    const signed = layer().scale === "diverging";
    for (const { niivue, scan, map, outlines } of shown) {
      const over = [];
      if (map) {
        map.colormap = "positive";
        map.colormapNegative = signed ? "negative" : "";
        map.colormapType = COLORMAP_TYPE.ZERO_TO_MAX_TRANSPARENT_BELOW_MIN;
        [map.cal_min, map.cal_max] = [lowest, highest];
        [map.cal_minNeg, map.cal_maxNeg] = [NaN, NaN];
        map.opacity = form.opacity.value / 100;
        over.push(map);
      }
      if (outlines && form.outlines.checked) over.push(outlines);
      // At once, as each of NiiVue's own calls for a volume would draw all of them again.
      Object.assign(niivue, { volumes: [scan, ...over], back: scan, overlays: over });
      niivue.opts.multiplanarShowRender = form.rendering.checked ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
      if (place) niivue.scene.crosshairPos = scan.convertMM2Frac(place, true);
      niivue.updateGLVolume();
    }
    aim();
    form.thresholded.value = `${figure(lowest)}`;
    form.opaque.value = `${form.opacity.value} %`;
    const [low, ramp, high, units] = element("view-scale").children;
    low.textContent = signed ? figure(-highest) : "0";
    high.textContent = figure(highest);
    units.textContent = layer().units;
    ramp.className = `ramp ${layer().scale}`;
    element("view-values").tHead.rows[0].cells[2].textContent = `${layer().name}, ${layer().units}`;
  }

  /* Planes are drawn so large, with the crosshair in their middle once they are larger than fits. */

  function aim() {
    const zoom = Number(form.zoom.value);
    for (const { niivue } of shown) {
      const middle = niivue.frac2mm([0.5, 0.5, 0.5], 0);
      const place = niivue.frac2mm(niivue.scene.crosshairPos, 0);
      const pan = [0, 1, 2].map((axis) => (zoom === 1 ? 0 : middle[axis] - zoom * place[axis]));
      niivue.setPan2Dxyzmm([...pan, zoom]);
    }
    form.zoomed.value = `${figure(zoom)} ×`;
  }

  /* Outlines have one value for the chosen lesion and one for all others, by their labels. */

  function outline(label) {
    for (const { outlines } of shown) {
      if (outlines) outlines.img.forEach((_, voxel) => {
        const own = around.img[voxel];
        outlines.img[voxel] = own === 0 ? 0 : data.whole || own === label ? 2 : 1;
      });
    }
  }

  /* Ratings: kept by the browser for these results, and given out as a table */

  const shelf = `jaxsal-ratings-${data.id}`;
  const keyOf = ({ label }) => JSON.stringify([data.scan, label]);
  let ratings = {};
  let keeps = true;

  function recall() {
    try {
      ratings = JSON.parse(localStorage.getItem(shelf)) ?? ratings;
    } catch {
      keeps = false;
    }
  }

  function rate(grade) {
    const lesion = lesions[chosen];
    const comment = form.comment.value.trim();
    if (keeps) recall();  // what other scans' views have kept meanwhile
    ratings[keyOf(lesion)] = {
      scan: data.scan, label: lesion.label, kind: lesion.kind, rating: grade, comment, time: new Date().toISOString(),
    };
    if (!grade && !comment) delete ratings[keyOf(lesion)];
    try {
      localStorage.setItem(shelf, JSON.stringify(ratings));
    } catch {
      keeps = false;
    }
    showRating();
  }

  function showRating() {
    const own = ratings[keyOf(lesions[chosen])];
    form.rating.value = own?.rating ?? "";
    form.comment.value = own?.comment ?? "";
    const count = Object.values(ratings).filter(({ rating }) => rating).length;
    form.rated.value = `${count} rated${keeps ? "" : "; this browser keeps none: download them before you leave"}`;
  }

  function table() {
    const names = ["scan", "label", "kind", "rating", "comment", "time"];
    const formula = /^[=+@-](?!\.?\d+(\.\d*)?([eE][+-]?\d+)?$)./;  // what spreadsheets would compute
    const cell = (value) => {
      const text = String(value ?? "").replace(/[\t\r\n"]+/g, " ");
      return formula.test(text) ? `'${text}` : text;
    };
    const order = Object.values(ratings).sort((a, b) => a.scan.localeCompare(b.scan) || a.label - b.label);
    return [names, ...order.map((rating) => names.map((name) => cell(rating[name])))]
      .map((cells) => `${cells.join("\t")}\n`).join("");
  }

  form.rating.forEach((button) => button.addEventListener("change", () => rate(button.value)));
  form.comment.addEventListener("change", () => rate(form.rating.value));
  form.ratings.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([table()], { type: "text/tab-separated-values" }));
    Object.assign(document.createElement("a"), { href: address, download: "ratings.tsv" }).click();
    setTimeout(() => URL.revokeObjectURL(address));
  });
  recall();

  /* Choosing a lesion */

  const choose = (...what) => show(...what).catch(failed);

  async function show(place, { move = true } = {}) {
    chosen = Math.min(Math.max(place, 0), lesions.length - 1);
    turn += 1;
    const own = turn;
    const lesion = lesions[chosen];
    form.lesion.value = chosen;
    showRating();
    document.querySelectorAll("tr[data-label]").forEach((row) => {
      row.setAttribute("aria-selected", data.whole || row.dataset.label === String(lesion.label));
    });
    const maps = mapsOf(lesion);
    const loaded = await Promise.all(panels.map((_, channel) => load((maps[channel] ?? maps[0])?.volume ?? null)));
    if (own !== turn) return;
    panels.forEach((panel, channel) => { panel.map = loaded[channel]; });
    outline(lesion.label);
    draw(move ? lesion.place : null);
    values(crosshair(), "At the crosshair");
    const empty = maps.length && maps.every(({ volume }) => volume === null);
    const what = data.whole ? "All segmented voxels" : `Lesion ${title(lesion)}`;
    const said = empty ? `: ${layer().name} is 0 everywhere, or no number` : maps.length ? "" : `: there is no ${layer().name} of it`;
    say(`${what}, ${chosen + 1} of ${lesions.length}${said}.${lesion.note ? ` ${lesion.note}` : ""}`);
  }

  form.lesion.addEventListener("change", () => choose(Number(form.lesion.value)));
  form.layer.addEventListener("change", () => choose(chosen, { move: false }));
  form.previous.addEventListener("click", () => choose(chosen - 1));
  form.next.addEventListener("click", () => choose(chosen + 1));
  element("view-controls").addEventListener("submit", (event) => event.preventDefault());
  let waiting = 0;
  form.zoom.addEventListener("input", aim);
  ["range", "threshold", "opacity", "outlines", "rendering"].forEach((name) => {
    form[name].addEventListener("input", () => {
      cancelAnimationFrame(waiting);  // one drawing per frame
      waiting = requestAnimationFrame(() => draw());
    });
  });
  document.querySelectorAll("tr[data-label]").forEach((row) => {
    row.addEventListener("click", ({ target }) => {
      const place = lesions.findIndex(({ label }) => data.whole || String(label) === row.dataset.label);
      if (!target.closest("a")) choose(place);
    });
  });
  const typed = (target) => target.matches("input[type=text], input[type=search], textarea");
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typed(event.target)) return;
    const panel = shown.find(({ canvas }) => canvas === event.target);
    if (event.key in grades) {
      rate(grades[event.key]);
    } else if (event.key in steps) {
      choose(chosen + steps[event.key]);
    } else if (panel && event.key in moves) {
      panel.niivue.moveCrosshairInVox(...moves[event.key]);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();  // NiiVue has keys of its own
  }, { capture: true });
  for (const { niivue, canvas } of shown) {
    canvas.addEventListener("click", () => {
      const label = at(labels, crosshair());
      const place = lesions.findIndex((lesion) => lesion.label === label);
      if (place >= 0 && place !== chosen && !data.whole) choose(place, { move: false });
    });
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const fraction = niivue.canvasPos2frac([offsetX * niivue.uiData.dpr, offsetY * niivue.uiData.dpr]);
      if (fraction[0] >= 0) values([...niivue.frac2mm(fraction, 0, true)].slice(0, 3), "Under the pointer");
    });
    canvas.addEventListener("pointerleave", () => values(crosshair(), "At the crosshair"));
  }

  const asked = () => lesions.findIndex(({ label }) => location.hash === `#lesion-${label}`);
  window.addEventListener("hashchange", () => { if (asked() >= 0) choose(asked()); });
  await show(Math.max(0, asked()));
}
