// What the student says about an input.

const percent = (p, digits = 1) => `${(100 * p).toFixed(digits)} %`;
const TOP = 10; // bars where there are more classes than MANY
const MANY = 12;

export function element(tag, className, ...content) {
  const found = document.createElement(tag);
  if (className) found.className = className;
  found.append(...content);
  return found;
}

const one = (selector) => document.querySelector(selector);

export function number(value) {
  // Return a number with three digits, or all digits before the point.
  if (value === null || value === undefined) return '∞';
  const size = Math.abs(value);
  if (size >= 1e6 || (size && size < 1e-3)) return value.toExponential(1);
  const places = size ? Math.max(0, 2 - Math.floor(Math.log10(size))) : 0;
  return value.toLocaleString('en-US', {minimumFractionDigits: places, maximumFractionDigits: places});
}

const share = (p) => (p > 0 && p < 0.0005 ? '< 0.1 %' : p < 1 && p > 0.9995 ? '> 99.9 %' : percent(p));

export function show(model, answer, coverage) {
  // Show a prediction; return what a screen reader announces.
  const row = answer.predictions[0];
  const classes = model.classes;
  const said = classes ? headline(row) : headlineOfTargets(model, row);
  one('#probabilities').hidden = !classes;
  if (classes) bars(classes, row);
  uncertainty(model, row);
  classes ? set(model, row, coverage) : interval(model, row, coverage);
  one('#members').hidden = !row.members;
  if (row.members) classes ? members(classes, row) : membersOfTargets(model, row);
  return said;
}

function badges(row) {
  const found = [];
  if (row.outside) found.push(element('span', 'badge', 'far outside the training range'));
  if (row.abstain) found.push(element('span', 'badge', 'would abstain: 5 % most uncertain'));
  return found;
}

function headline(row) {
  const label = element('span', row.label.length > 8 ? 'label long' : 'label', row.label);
  one('#headline').replaceChildren(label, element('span', 'with', `with ${share(row.confidence)}`), ...badges(row));
  return `${row.label}, ${share(row.confidence)}`;
}

function headlineOfTargets(model, row) {
  const label = element('span', row.mean.length > 2 ? 'label long' : 'label', row.mean.map(number).join(', '));
  const deviation = number(Math.sqrt(row.total));
  one('#headline').replaceChildren(label, element('span', 'with', `± ${deviation}`), ...badges(row));
  return `${row.mean.map(number).join(', ')}, plus or minus ${deviation}`;
}

function bars(classes, row) {
  const order = classes.map((_, i) => i);
  const many = classes.length > MANY;
  if (many) order.sort((a, b) => row.probabilities[b] - row.probabilities[a]);
  const shown = many ? order.slice(0, TOP) : order;
  const list = one('#probabilities .bars');
  list.classList.toggle('named', classes.some((name) => name.length > 3));
  list.querySelector('.more')?.remove();
  while (list.children.length > shown.length) list.lastChild.remove();
  while (list.children.length < shown.length) {
    const item = element('li', '', element('span', 'name'), element('span', 'track', element('i')), element('span', 'value'));
    item.children[1].setAttribute('aria-hidden', 'true');
    list.append(item);
  }
  shown.forEach((k, i) => {
    const item = list.children[i], p = row.probabilities[k];
    item.className = classes[k] === row.label ? 'top' : '';
    item.children[0].textContent = classes[k];
    item.querySelector('i').style.width = percent(p, 2).replace(' ', '');
    item.children[2].textContent = share(p);
  });
  if (many) {
    const rest = order.slice(TOP).reduce((sum, k) => sum + row.probabilities[k], 0);
    list.append(element('li', 'more', `and ${classes.length - TOP} other classes, ${share(rest)} together`));
  }
}

function uncertainty(model, row) {
  const most = model.classes ? Math.log(model.classes.length) : row.total || 1;
  one('.stack .data').style.width = `${(100 * row.data) / most}%`;
  one('.stack .knowledge').style.width = `${(100 * row.knowledge) / most}%`;
  const shown = (value) => (model.classes ? number(value) : number(Math.sqrt(value)));
  const part = (name, className, value) => {
    const dt = element('dt', '');
    if (className) dt.append(element('span', `dot ${className}`));
    dt.append(name);
    return element('div', '', dt, element('dd', '', shown(value)));
  };
  one('.parts').replaceChildren(part('total', '', row.total), part('data', 'data', row.data),
    part('knowledge', 'knowledge', row.knowledge));
  one('#uncertainty-title').textContent = model.classes
    ? `Uncertainty, in nats of at most ${number(most)}`
    : 'Uncertainty, as standard deviations' + (row.mean.length > 1 ? ' over all targets' : '');
  one('#uncertainty .meaning').textContent = `${howMuch(model, row, most)} ${which(model, row, most)}`;
}

function level(model, total) {
  // Return the share of validation examples that are at most as uncertain; null if unknown.
  if (!model.total) return null;
  let found = 0;
  model.total.values.forEach((value, i) => { if (value !== null && value < total) found = model.total.levels[i]; });
  return found;
}

function howMuch(model, row, most) {
  const at = level(model, row.total);
  const amount = model.classes ? `${number(row.total)} nats` : `a standard deviation of ${number(Math.sqrt(row.total))}`;
  if (at === null) {
    if (!model.classes) return `The prediction has ${amount}.`;
    return row.total < 0.1 * most ? `With ${amount} the student is sure.`
      : `With ${amount} of ${number(most)} the student is ${row.total < 0.4 * most ? 'somewhat' : 'very'} unsure.`;
  }
  if (at >= 0.95) return `The total, ${amount}, is higher than for ${percent(at, 0)} of the validation examples: be careful with this prediction.`;
  if (at >= 0.5) return `The total, ${amount}, is higher than for ${percent(at, 0)} of the validation examples, which is not unusual.`;
  return `The total, ${amount}, is lower than for most of the validation examples: the student is sure.`;
}

function which(model, row, most) {
  const part = row.total > 0 ? row.knowledge / row.total : 0;
  if (!model.members && row.knowledge < 1e-9) {
    return 'This student is one network that gives one distribution, so all of it counts as data: it cannot say how much the ensemble disagreed.';
  }
  const shown = percent(part, part < 0.1 ? 1 : 0);
  if (model.classes && row.total < 0.05 * most) {
    return `The members agree with each other (knowledge is ${shown} of it), and the input is not ambiguous.`;
  }
  if (part >= 0.5) {
    return `Most of it (${shown}) is knowledge: the ensemble's members disagree, as they do on inputs unlike those of training, and more such examples would help.`;
  }
  if (part >= 0.1) {
    return `Some of it (${shown}) is knowledge, disagreement of the ensemble's members that more training data would reduce; the rest is data, ambiguity of the input itself.`;
  }
  return `Nearly all of it is data (knowledge is ${shown}): the ensemble's members agree that the input itself is ambiguous or noisy, and more training data would not help.`;
}

function set(model, row, coverage) {
  one('#set-title').textContent = 'Prediction set';
  const content = one('#set .content'), meaning = one('#set .meaning');
  one('#set .segments').hidden = !model.calibrated;
  if (!row.set) {
    content.replaceChildren();
    meaning.textContent = `There is no prediction set: ${model.why_uncalibrated}.`;
    return;
  }
  const shown = row.set.slice(0, 40).map((name) => element('li', '', name));
  if (row.set.length > 40) shown.push(element('li', 'none', `and ${row.set.length - 40} more`));
  if (!shown.length) shown.push(element('li', 'none', 'empty: no class is likely enough'));
  content.replaceChildren(element('ul', 'chips', ...shown));
  meaning.textContent = row.set.length
    ? `Such a set holds the right class in at least ${percent(coverage, 0)} of cases, if inputs are like those of validation.`
    : 'An empty set is typical of inputs unlike those of validation.';
}

function interval(model, row, coverage) {
  one('#set-title').textContent = 'Prediction interval';
  const content = one('#set .content'), meaning = one('#set .meaning');
  one('#set .segments').hidden = !model.calibrated;
  if (!row.quantiles) {
    content.replaceChildren();
    meaning.textContent = `There is no interval: ${model.why_uncalibrated}.`;
    return;
  }
  const [low, , high] = Object.values(row.quantiles);
  content.replaceChildren(...row.mean.map((mean, d) => {
    const text = element('p', '', row.mean.length > 1 ? `target ${d + 1}: ` : '',
      element('strong', '', `${low[d] === null ? '−∞' : number(low[d])} to ${number(high[d])}`));
    return element('div', '', text, axis({low: low[d], high: high[d], mean, members: []}));
  }));
  meaning.textContent = `Such an interval holds the true value in at least ${percent(coverage, 0)} of cases, if inputs are like those of validation.`;
}

function members(classes, row) {
  const tops = row.members.map((p) => p.indexOf(Math.max(...p)));
  const same = tops.filter((k) => classes[k] === row.label).length;
  one('#members .meaning').textContent = same === tops.length
    ? `All ${tops.length} members say ${row.label}.`
    : `${same} of ${tops.length} members say ${row.label}.`;
  const strips = classes.length <= 26 && classes.every((name) => name.length <= 2);
  const body = row.members.map((p, m) => {
    const top = tops[m];
    const head = element('th', 'name', `${m + 1}`);
    head.scope = 'row';
    const label = element('td', classes[top] === row.label ? 'name' : 'name differs', classes[top]);
    const cells = [head, label, element('td', 'name', share(p[top]))];
    const wide = element('td', 'heat', strips ? strip(classes, p) : bar(p[top]));
    wide.setAttribute('aria-hidden', 'true');
    return element('tr', '', ...cells, wide);
  });
  const heads = ['member', 'says', 'with', ''].map((text) => {
    const th = element('th', '', text);
    th.scope = 'col';
    return th;
  });
  const table = element('table', 'opinions', element('thead', '', element('tr', '', ...heads)), element('tbody', '', ...body));
  one('#members .content').replaceChildren(element('div', 'scroll', table));
}

function strip(classes, p) {
  return element('div', 'strip', ...p.map((value, k) => {
    const ink = element('i');
    ink.style.opacity = value;
    return element('span', value > 0.75 ? 'most' : value > 0.25 ? 'some' : '', ink, element('b', '', classes[k]));
  }));
}

function bar(p) {
  const ink = element('i');
  ink.style.width = `${100 * p}%`;
  return element('div', 'strip', element('span', '', ink));
}

function membersOfTargets(model, row) {
  const sizes = row.members.length;
  one('#members .meaning').textContent = `The means of the ${sizes} members; the distance between them is the knowledge.`;
  one('#members .content').replaceChildren(...row.mean.map((mean, d) => {
    const values = row.members.map((own) => own[d]);
    const text = (row.mean.length > 1 ? `target ${d + 1}: ` : '') + values.map(number).join(', ');
    return element('div', '', axis({low: null, high: null, mean, members: values}), element('p', 'small muted', text));
  }));
}

function axis({low, high, mean, members: values}) {
  // Return a picture of an interval, a mean, and members on a line.
  const known = [low, high, mean, ...values].filter((v) => v !== null && v !== undefined);
  let [from, to] = [Math.min(...known), Math.max(...known)];
  const slack = 0.15 * (to - from) || Math.abs(from) * 0.1 || 1;
  [from, to] = [from - slack, to + slack];
  const at = (v) => `${(100 * (v - from)) / (to - from)}%`;
  const found = element('div', 'axis');
  found.setAttribute('aria-hidden', 'true');
  const add = (className, place, ...content) => {
    const made = element('i', className, ...content);
    Object.assign(made.style, place);
    found.append(made);
  };
  if (!values.length) {
    const [a, b] = [low === null ? '0%' : at(low), high === null ? '100%' : at(high)];
    add('band', {left: a, right: `calc(100% - ${b})`});
  }
  values.forEach((v) => add('member', {left: at(v)}));
  add('mean', {left: at(mean)});
  const ends = values.length ? [Math.min(...values), Math.max(...values)] : [low, high];
  ends.forEach((v) => { if (v !== null) add('end', {left: at(v)}, number(v)); });
  return found;
}
