// What a person gives: a drawing, an image file, or a row of numbers.

const PEN = 0.1; // width of a stroke, of the longer side of what is drawn
const STEP = 0.03; // of the keyboard's pen

// How data sets place what is drawn, in shares of the image's side: the box that it fills, and the
// width of a stroke. Scikit-learn's digits fill the whole height, and their strokes are wide; those
// of MNIST lie in 20 of 28 pixels, with their centre of mass in the middle.
const MNIST = {height: 20 / 28, width: 20 / 28, pen: 0.085, byMass: true};
const PLACEMENT = {digits: {height: 1, width: 0.8, pen: 0.17, byMass: false}};

export class Pad {
  // The drawing area: strokes in units of its width; an image replaces them.
  constructor(change) {
    this.change = change;
    this.canvas = document.getElementById('pad');
    this.preview = document.getElementById('preview');
    this.centre = document.getElementById('centre');
    this.stage = document.getElementById('stage');
    this.strokes = [];
    this.file = null;
    this.pen = null; // of the keyboard: {x, y, down}
    this.listen();
  }

  show(model) {
    // Prepare for a student's images.
    const [height, width, channels] = model.inputs.shape;
    this.model = model;
    this.draws = channels === 1;
    const mean = model.inputs.mean.reduce((a, b) => a + b, 0) / model.inputs.mean.length;
    this.ink = mean > 0.5 ? 0 : 255; // strokes are dark where the data's background is light
    this.canvas.width = 640;
    this.canvas.height = Math.round((640 * height) / width);
    this.canvas.classList.toggle('light', this.ink === 0);
    this.canvas.classList.toggle('still', !this.draws);
    this.preview.setAttribute('aria-label', 'What the student sees');
    this.preview.width = width;
    this.preview.height = height;
    document.querySelector('#seen figcaption').textContent = `The student sees ${width} × ${height} pixels`;
    document.getElementById('centre-label').hidden = !this.draws;
    document.getElementById('undo').hidden = !this.draws;
    document.getElementById('hint').textContent = this.draws
      ? 'Draw here, or drop an image' : 'Drop an image here';
    document.getElementById('pad-help').textContent = this.draws
      ? 'By keyboard: arrow keys move the pen, space puts it down or lifts it, Delete clears.'
      : 'Drop, paste or choose an image. Its centre is cut out, as in training.';
    this.clear();
  }

  clear() {
    this.strokes = [];
    this.file = this.image = this.pen = null;
    this.paint();
    this.change(0);
  }

  undo() {
    this.file = this.image = null;
    this.strokes.pop();
    this.paint();
    this.change(0);
  }

  get empty() { return !this.file && !this.strokes.length; }

  async use(file) {
    // Take an image file; the server decodes it.
    this.strokes = [];
    this.file = file;
    try { this.image = await createImageBitmap(file); } catch { this.image = null; }
    this.paint();
    this.change(0);
  }

  async body() {
    // Return the type and the bytes of what is drawn or was given.
    if (this.file) return {type: this.file.type || 'application/octet-stream', content: this.file};
    const blob = await new Promise((done) => this.preview.toBlob(done, 'image/png'));
    return {type: 'image/png', content: blob};
  }

  paint() {
    const {width, height} = this.canvas;
    const context = this.canvas.getContext('2d');
    context.fillStyle = this.ink ? '#000' : '#fff';
    context.fillRect(0, 0, width, height);
    if (this.image) cover(context, this.image, width, height, this.model.inputs.central);
    else stroke(context, this.strokes, (p) => [p[0] * width, p[1] * width], PEN * width, this.ink);
    if (this.pen && this.draws) ring(context, this.pen, width);
    document.getElementById('hint').hidden = !this.empty || Boolean(this.pen);
    document.getElementById('undo').disabled = !this.strokes.length;
    document.getElementById('clear').disabled = this.empty;
    const drawn = this.draws ? 'Drawing area' : 'Image';
    this.canvas.setAttribute('aria-label', `${drawn}, ${
      this.file ? 'with an image' : this.strokes.length ? `${this.strokes.length} strokes` : 'empty'}`);
    this.see();
  }

  see() {
    // Write into the preview what the student gets.
    const {width, height} = this.preview;
    const context = this.preview.getContext('2d', {willReadFrequently: true});
    context.fillStyle = this.ink ? '#000' : '#fff';
    context.fillRect(0, 0, width, height);
    if (this.image) {
      context.imageSmoothingQuality = 'high';
      cover(context, this.image, width, height, this.model.inputs.central);
      if (this.model.inputs.shape[2] === 1) grey(context, width, height);
    } else if (this.strokes.length) {
      const pixels = this.centre.checked
        ? centred(this.strokes, width, height, PLACEMENT[this.model.data] || MNIST)
        : raster(this.strokes, width, height, (p, size) => [p[0] * size, p[1] * size], PEN * width);
      context.putImageData(asImage(pixels, width, height, this.ink), 0, 0);
    }
  }

  listen() {
    const pad = this.canvas;
    const at = (event) => {
      const box = pad.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
    };
    let drawing = null;
    pad.addEventListener('pointerdown', (event) => {
      if (!this.draws || event.button) return;
      event.preventDefault();
      pad.classList.add('pointer');
      pad.focus({preventScroll: true});
      pad.setPointerCapture(event.pointerId);
      this.file = this.image = this.pen = null;
      drawing = [at(event)];
      this.strokes.push(drawing);
      this.paint();
    });
    pad.addEventListener('pointermove', (event) => {
      if (!drawing) return;
      const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of moves.length ? moves : [event]) drawing.push(at(one));
      this.paint();
      this.change(120);
    });
    const end = () => {
      if (!drawing) return;
      drawing = null;
      this.change(0);
    };
    pad.addEventListener('pointerup', end);
    pad.addEventListener('pointercancel', end);
    pad.addEventListener('keydown', (event) => this.key(event));
    pad.addEventListener('blur', () => {
      this.pen = null;
      pad.classList.remove('pointer');
      this.paint();
    });
    document.getElementById('clear').addEventListener('click', () => this.clear());
    document.getElementById('undo').addEventListener('click', () => this.undo());
    this.centre.addEventListener('change', () => { this.paint(); this.change(0); });
    const file = document.getElementById('file');
    document.getElementById('choose').addEventListener('click', () => file.click());
    file.addEventListener('change', () => {
      if (file.files.length) this.use(file.files[0]);
      file.value = '';
    });
    this.listenToDrops();
  }

  listenToDrops() {
    const over = (event) => {
      if (document.getElementById('image-input').hidden) return;
      event.preventDefault();
      this.stage.classList.toggle('over', event.type === 'dragover');
    };
    document.addEventListener('dragover', over);
    document.addEventListener('dragleave', over);
    document.addEventListener('drop', (event) => {
      over(event);
      const file = event.dataTransfer && event.dataTransfer.files[0];
      if (file && !document.getElementById('image-input').hidden) this.use(file);
    });
    document.addEventListener('paste', (event) => {
      const file = event.clipboardData && event.clipboardData.files[0];
      if (file && !document.getElementById('image-input').hidden) this.use(file);
    });
  }

  key(event) {
    // Draw by the keyboard.
    this.canvas.classList.remove('pointer');
    const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (event.key === 'Delete' || event.key === 'Backspace') { event.preventDefault(); this.clear(); return; }
    if (!this.draws || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!moves[event.key] && event.key !== ' ') return;
    event.preventDefault();
    const tall = this.canvas.height / this.canvas.width;
    this.pen = this.pen || {x: 0.5, y: tall / 2, down: false};
    if (event.key === ' ') {
      this.pen.down = !this.pen.down;
      if (this.pen.down) {
        this.file = this.image = null;
        this.strokes.push([[this.pen.x, this.pen.y]]);
      }
    } else {
      const [right, down] = moves[event.key];
      this.pen.x = Math.min(1, Math.max(0, this.pen.x + right * STEP));
      this.pen.y = Math.min(tall, Math.max(0, this.pen.y + down * STEP));
      if (this.pen.down) this.strokes.at(-1).push([this.pen.x, this.pen.y]);
    }
    this.paint();
    if (this.pen.down) this.change(200);
  }
}

function stroke(context, strokes, place, width, ink) {
  context.strokeStyle = context.fillStyle = ink ? '#fff' : '#000';
  context.lineWidth = width;
  context.lineCap = context.lineJoin = 'round';
  for (const points of strokes) {
    context.beginPath();
    points.forEach((p, i) => context[i ? 'lineTo' : 'moveTo'](...place(p)));
    if (points.length === 1) context.lineTo(place(points[0])[0] + 0.01, place(points[0])[1]);
    context.stroke();
  }
}

function ring(context, pen, width) {
  context.beginPath();
  context.arc(pen.x * width, pen.y * width, (PEN * width) / 2, 0, 7);
  context.lineWidth = 4;
  context.strokeStyle = pen.down ? '#ff9d3d' : '#4c9aff';
  context.stroke();
}

function cover(context, image, width, height, central) {
  // Draw the centre of an image, as the server cuts it out.
  const scale = Math.max(width / image.width, height / image.height) / central;
  const [w, h] = [image.width * scale, image.height * scale];
  context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
}

function grey(context, width, height) {
  const pixels = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [r, g, b] = pixels.data.subarray(i, i + 3);
    pixels.data.fill(Math.round(0.299 * r + 0.587 * g + 0.114 * b), i, i + 3);
  }
  context.putImageData(pixels, 0, 0);
}

function raster(strokes, width, height, place, pen) {
  // Return coverage [0, 1] of height x width pixels: strokes drawn finely, then averaged.
  const fine = Math.max(1, Math.min(16, Math.floor(1024 / Math.max(width, height))));
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width * fine, height * fine];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  stroke(context, strokes, (p) => place(p, width * fine), pen * fine, 255);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  const found = new Float32Array(width * height);
  for (let y = 0; y < canvas.height; y++) {
    const row = Math.floor(y / fine) * width;
    for (let x = 0; x < canvas.width; x++) found[row + Math.floor(x / fine)] += data[4 * (y * canvas.width + x) + 3];
  }
  return found.map((sum) => sum / (255 * fine * fine));
}

function centred(strokes, width, height, {byMass, ...box}) {
  // Return a drawing scaled and centred like those of the data.
  const points = strokes.flat();
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const side = Math.min(width, height);
  const pen = box.pen * side;
  const least = 0.12; // so that a point stays one
  const scale = Math.min((box.width * side - pen) / Math.max(right - left, least),
    (box.height * side - pen) / Math.max(bottom - top, least));
  let [x0, y0] = [width / 2 - (scale * (left + right)) / 2, height / 2 - (scale * (top + bottom)) / 2];
  const place = (p, size) => [((p[0] * scale + x0) * size) / width, ((p[1] * scale + y0) * size) / width];
  let found = raster(strokes, width, height, place, pen);
  if (byMass) {
    let mass = 0, x = 0, y = 0;
    found.forEach((v, i) => { mass += v; x += v * ((i % width) + 0.5); y += v * (Math.floor(i / width) + 0.5); });
    x0 += width / 2 - x / mass;
    y0 += height / 2 - y / mass;
    found = raster(strokes, width, height, place, pen);
  }
  return found;
}

function asImage(pixels, width, height, ink) {
  const image = new ImageData(width, height);
  pixels.forEach((v, i) => {
    image.data.fill(Math.round(ink ? 255 * v : 255 * (1 - v)), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  });
  return image;
}

export class Row {
  // The form of a table's row.
  constructor(change) {
    this.change = change;
    this.form = document.getElementById('row-input');
    this.fields = document.getElementById('fields');
    this.form.addEventListener('submit', (event) => { event.preventDefault(); this.change(0); });
    document.getElementById('typical').addEventListener('click', () => this.fill((c) => c.mean));
    document.getElementById('random').addEventListener('click', () => this.fill(
      (c) => c.mean + c.std * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())));
    document.getElementById('pasted').addEventListener('input', (event) => {
      const text = event.target.value;
      document.getElementById('paste-problem').textContent = text.trim() ? this.paste(text) : '';
    });
  }

  show(model) {
    this.columns = model.inputs.columns;
    this.named = this.columns.every((column) => column.name !== null);
    this.inputs = this.columns.map((column, i) => this.field(column, i));
    this.fields.replaceChildren(...this.inputs.map((input) => input.parentElement));
    document.getElementById('pasted').value = document.getElementById('paste-problem').textContent = '';
    document.getElementById('paste').open = this.columns.length > 40;
    this.fill((column) => column.mean);
  }

  field(column, i) {
    const cell = document.createElement('div');
    cell.className = 'cell';
    const label = document.createElement('label');
    label.htmlFor = `column-${i}`;
    label.textContent = column.name ?? `x${i + 1}`;
    const input = document.createElement('input');
    Object.assign(input, {type: 'number', id: `column-${i}`, step: 'any', required: true, inputMode: 'decimal'});
    cell.append(label, input);
    if (column.high > column.low) {
      const slider = document.createElement('input');
      Object.assign(slider, {type: 'range', min: column.low, max: column.high, step: 'any', tabIndex: -1});
      slider.setAttribute('aria-hidden', 'true'); // the number says the same
      slider.addEventListener('input', () => {
        input.value = digits(Number(slider.value), column);
        this.change(100);
      });
      input.addEventListener('input', () => { slider.value = input.value; });
      input.title = `from ${digits(column.low, column)} to ${digits(column.high, column)} in training`;
      cell.append(slider);
    }
    input.addEventListener('input', () => this.change(250));
    return input;
  }

  fill(value) {
    this.columns.forEach((column, i) => {
      let v = value(column);
      if (column.low !== null) v = Math.min(column.high, Math.max(column.low, v));
      this.set(i, digits(v, column));
    });
    this.change(0);
  }

  set(i, value) {
    this.inputs[i].value = value;
    const slider = this.inputs[i].parentElement.querySelector('[type=range]');
    if (slider) slider.value = value;
  }

  paste(text) {
    // Fill in a row; return what is wrong with it, or ''.
    const words = text.trim().split(/[,;\t]/.test(text) ? /\s*[,;\t]\s*/ : /\s+/);
    const values = words.map((word) => (word === '' ? NaN : Number(word)));
    const count = this.columns.length;
    if (values.length !== count) return `${values.length} values for ${count} columns`;
    const wrong = values.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0) return `value ${wrong + 1} is not a number: ${words[wrong] || 'nothing'}`;
    values.forEach((value, i) => this.set(i, value));
    this.change(0);
    return '';
  }

  get empty() { return this.inputs.some((input) => !Number.isFinite(input.valueAsNumber)); }

  async body() {
    const values = this.inputs.map((input) => input.valueAsNumber);
    const row = this.named ? Object.fromEntries(this.columns.map((c, i) => [c.name, values[i]])) : values;
    return {type: 'application/json', content: JSON.stringify({instances: [row]})};
  }

  check() {
    for (const input of this.inputs) {
      input.setAttribute('aria-invalid', String(!Number.isFinite(input.valueAsNumber)));
    }
  }
}

function digits(value, column) {
  // Return a number with the digits that matter in its column's range.
  const span = (column.high ?? 0) - (column.low ?? 0) || Math.abs(value) || 1;
  const places = Math.min(100, Math.max(0, 3 - Math.floor(Math.log10(span))));
  return Number(value.toFixed(places));
}
