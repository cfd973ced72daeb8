// The page: chooses a student, asks for predictions while a person draws or types, shows answers.

import {Pad, Row} from './inputs.js';
import {element, show} from './results.js';

const COVERAGES = [0.8, 0.9, 0.95, 0.99];
const state = {model: null, input: null, coverage: 0.9, timer: 0, asked: null};
const one = (selector) => document.querySelector(selector);
const pad = new Pad(schedule);
const row = new Row(schedule);
one('#row-input').addEventListener('submit', () => { state.look = true; }); // on a phone it lies below

async function start() {
  const answer = await fetch('v1/models');
  const {models} = await answer.json();
  const select = one('#model');
  select.replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  one('#choice').hidden = models.length < 2;
  const wanted = new URLSearchParams(location.search).get('model');
  const first = models.find((model) => model.name === wanted) || models[0];
  select.value = first.name;
  select.addEventListener('change', () => choose(models.find((model) => model.name === select.value)));
  coverages();
  choose(first);
}

function coverages() {
  one('#set .segments').append(...COVERAGES.map((value) => {
    const input = Object.assign(document.createElement('input'),
      {type: 'radio', name: 'coverage', value, checked: value === state.coverage});
    input.addEventListener('change', () => { state.coverage = value; schedule(0); });
    return element('label', '', input, `${Math.round(100 * value)} %`);
  }));
}

function choose(model) {
  state.model = model;
  const isTable = model.inputs.kind === 'table';
  const members = model.members ? `, ${model.members} members` : '';
  const what = model.classes ? `${model.classes.length} classes`
    : model.targets > 1 ? `${model.targets} targets` : 'regression';
  one('#about').textContent = `${model.name}: trained on ${model.data}, ${what}${members}, ${
    model.parameters.toLocaleString('en-US')} parameters`;
  document.title = `${model.name} · ensdistill`;
  one('#image-input').hidden = isTable;
  one('#row-input').hidden = !isTable;
  one('#input').classList.toggle('image', !isTable);
  one('#empty p').textContent = isTable ? 'Fill in a row to see what the student predicts.'
    : model.inputs.shape[2] === 1 ? 'Draw something, or drop an image, to see what the student predicts.'
    : 'Drop an image to see what the student predicts.';
  state.input = isTable ? row : pad;
  blank();
  state.input.show(model);
}

function blank() {
  if (state.asked) state.asked.abort();
  clearTimeout(state.timer);
  one('#results').hidden = true;
  one('#error').hidden = true;
  one('#empty').hidden = false;
  one('#status').textContent = '';
}

function schedule(milliseconds) {
  // Predict after a moment without changes; while a person draws, at least every `milliseconds`.
  if (!state.model || state.input === null) return;
  if (milliseconds && state.timer && state.waits) return;
  clearTimeout(state.timer);
  state.waits = milliseconds > 0;
  state.timer = setTimeout(() => { state.waits = false; predict(); }, milliseconds);
}

async function predict() {
  const {model, input} = state;
  if (input.check) input.check();
  if (input.empty) {
    blank();
    return;
  }
  if (state.asked) state.asked.abort();
  const asked = state.asked = new AbortController();
  const query = new URLSearchParams();
  if (model.members) query.set('members', 'true');
  if (model.calibrated) {
    query.set('coverage', state.coverage);
    query.set('abstain', '0.05');
  }
  let answer, found;
  try {
    const {type, content} = await input.body();
    answer = await fetch(`v1/models/${encodeURIComponent(model.name)}:predict?${query}`,
      {method: 'POST', headers: {'Content-Type': type}, body: content, signal: asked.signal});
    found = await answer.json();
  } catch {
    if (!asked.signal.aborted) fail('The server does not answer: change the input to try again.');
    return;
  }
  if (asked.signal.aborted) return;
  if (answer.ok) succeed(model, found);
  else fail(found.error);
  if (answer.status === 503) schedule(1000 * Number(answer.headers.get('Retry-After') || 1));
}

function succeed(model, found) {
  one('#error').hidden = true;
  one('#empty').hidden = true;
  one('#results').hidden = false;
  if (state.look) {
    state.look = false;
    const output = one('#output');
    if (output.getBoundingClientRect().top > innerHeight / 2) output.scrollIntoView();
  }
  const said = show(model, found, state.coverage);
  clearTimeout(state.saying);
  state.saying = setTimeout(() => { one('#status').textContent = said; }, 500);
}

function fail(message) {
  one('#results').hidden = true;
  one('#empty').hidden = true;
  one('#error').textContent = message;
  one('#error').hidden = false;
}

start().catch(() => fail('The server does not answer: reload the page.'));
