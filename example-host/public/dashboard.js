// Draws the figures that each node publishes every two seconds. They arrive from all nodes, through the one that this page is connected to.
import { WebSocketClient } from '/client.js'
import { $, arrange, followConnection, login, make, readId } from '/dom.js'
import { Chart } from '/chart.js'
import { showOperators } from '/operators.js'

const EVERY = 2000
const KEPT = 150 // five minutes
const SILENT = 5000 // milliseconds without figures after which a node counts as gone
const OPERATORS = '999999999' // the club that may watch

const sum = (values) => values.reduce((total, value) => total + value, 0)
const max = (values) => Math.max(0, ...values)
const newest = (_values, newest) => newest // all nodes read the same database
const short = (value) => value === null || value === undefined ? '–' : value >= 10_000 ? `${(value / 1000).toFixed(1)}k` : value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)

const TOTALS = [
  ['Connections', 'connections', sum], ['Messages/s', 'messages', sum], ['Deliveries/s', 'deliveries', sum], ['Event-loop delay, ms', 'delay', max],
  ['Pending events', 'pending', newest], ['Failed events', 'failed', newest], ['Waiting for the database', 'queued', sum], ['Refused frames/s', 'refused', sum],
  ['Watched users', 'watched', sum], ['Channels with members', 'rooms', sum]
]
const COLUMNS = ['connections', 'users', 'messages', 'deliveries', 'delay']
const HEALTH = ['database', 'redis']
const OF_NODES = [['Connections', 'connections'], ['Messages per second', 'messages'], ['Deliveries per second', 'deliveries'], ['Event-loop delay, p99, ms', 'delay'], ['Refused frames/s', 'refused']]
const OF_DATABASE = [['pending', 5], ['failed', 4]] // and their colours

const nodes = new Map() // name → { color, seenAt, latest, history, row }
const times = []
const stored = { pending: [], failed: [] } // histories
let latest = null
let connectedAt = 0

let current = null // the token in use, as a promise
const token = () => {
  current = login({ userId: readId(`${1 + Math.floor(Math.random() * 1e9)}`), clubId: readId(OPERATORS), name: 'Dashboard', admin: true })
  return current
}
const client = new WebSocketClient({
  baseUrl: '/api/websocket',
  token,
  reconnectDelay: 1000
})
followConnection(client, 'Live, every 2 seconds')
const problem = (text = '') => {
  $('problem').hidden = text === ''
  $('problem').textContent = text
}
client.on('error', ({ code, message }) => problem(`${message} (${code})`))
client.on('transport', ({ transport }) => {
  connectedAt = Date.now()
  problem(transport === 'polling' ? 'Figures arrive by sockets, which are blocked here.' : '')
})
showOperators(() => current ?? token())
client.subscribe('figures').catch(() => {}) // reported by `error`

client.on('node:figures', (figures) => {
  if (!nodes.has(figures.node)) meet(figures.node)
  const node = nodes.get(figures.node)
  // Counts since the node started, converted to a rate per second since the last figures. A smaller count means a restart.
  const at = Date.parse(figures.timestamp)
  const rate = (name) => {
    const more = figures[name] - node.counts?.[name]
    return more >= 0 && at > node.countedAt ? more * 1000 / (at - node.countedAt) : 0
  }
  const rates = { messages: rate('messages'), deliveries: rate('deliveries'), refused: rate('refused') }
  Object.assign(node, { counts: figures, countedAt: at, seenAt: Date.now(), latest: { ...figures, ...rates } })
  latest = figures
})

function meet (name) {
  const used = new Set([...nodes.values()].map(({ color }) => color))
  const color = [1, 2, 3, 4, 5, 6].find((one) => !used.has(one)) ?? 1 + nodes.size % 6
  const row = make('tr', {}, make('th', { scope: 'row' }, make('i', { className: `swatch c${color}` }), name, make('span', { className: 'hidden' })), ...[...COLUMNS, ...HEALTH].map(() => make('td')))
  nodes.set(name, { name, color, row, history: Object.fromEntries(OF_NODES.map(([, figure]) => [figure, times.map(() => null)])) })
}

const isGone = ({ seenAt }) => client.transport === 'websocket' && Date.now() - Math.max(seenAt, connectedAt) > SILENT

const totals = TOTALS.map(([title, figure, over]) => {
  const value = make('dd', { textContent: '–' })
  $('totals').append(make('div', {}, make('dt', { textContent: title }), value))
  return { value, figure, over }
})
const charts = OF_NODES.map(([title, figure]) => ({ figure, chart: new Chart($('charts'), title, short) }))
const ofDatabase = new Chart($('charts'), 'Pending and failed events', short)

function tick () {
  const push = (list, value) => { if (list.push(value) > KEPT) list.shift() }
  push(times, Date.now() / 1000)
  const live = [...nodes.values()].filter((node) => !isGone(node))
  for (const node of nodes.values()) {
    const { row, history } = node
    const gone = isGone(node)
    for (const [, figure] of OF_NODES) push(history[figure], gone ? null : node.latest[figure])
    row.className = gone ? 'gone' : ''
    row.firstChild.lastChild.textContent = gone ? ', gone' : ''
    COLUMNS.forEach((figure, i) => { row.children[i + 1].textContent = gone ? '–' : short(node.latest[figure]) })
    HEALTH.forEach((part, i) => {
      const cell = row.children[COLUMNS.length + 1 + i]
      cell.textContent = gone ? '–' : node.latest[part] ? 'ok' : 'away'
      cell.className = !gone && !node.latest[part] ? 'bad' : ''
    })
    // Five minutes later nothing of it is left to be shown.
    if (history.connections.every((value) => value === null)) nodes.delete(node.name)
  }
  for (const [figure, values] of Object.entries(stored)) push(values, live.length > 0 ? latest[figure] : null)
  for (const { value, figure, over } of totals) value.textContent = live.length === 0 ? '–' : short(over(live.map((node) => node.latest[figure]), latest[figure]))
  const all = [...nodes.values()].sort((a, b) => a.name.localeCompare(b.name))
  arrange($('nodes'), all.map(({ row }) => row))
  for (const { figure, chart } of charts) chart.draw(times, all.map(({ name, color, history }) => ({ name, color, values: history[figure] })))
  ofDatabase.draw(times, OF_DATABASE.map(([name, color]) => ({ name, color, values: stored[name] })))
}
setInterval(tick, EVERY)
