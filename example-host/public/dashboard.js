// Draws what /metrics says, which is what a scraper would read: this node's figures, every two seconds.
import uPlot from '/uPlot.esm.js'

const EVERY = 2000
const KEPT = 150 // five minutes

const sum = (name, labels = '') => (samples) => samples.filter((sample) => sample.name === name && sample.labels.includes(labels))
  .reduce((total, { value }) => total + value, 0)
/** Of a counter: how much a second since the last look. */
const rate = (name) => {
  let last = null
  return (samples, now) => {
    const value = sum(name)(samples)
    const found = last === null || value < last.value ? 0 : (value - last.value) * 1000 / (now - last.now)
    last = { value, now }
    return found
  }
}
const FIGURES = [
  { title: 'Connections', read: sum('realtime_connections') },
  { title: 'Users here', read: sum('realtime_roster_users') },
  { title: 'Messages per second', read: rate('realtime_log_batch_rows_sum') },
  { title: 'Deliveries per second', read: rate('realtime_deliveries_total') },
  { title: 'Events waiting for the database', read: sum('realtime_log_queued_events') },
  { title: 'Frames dropped per second', read: rate('realtime_frames_dropped_total') },
  { title: 'Event-loop delay, p99, ms', read: (samples) => 1000 * sum('realtime_event_loop_delay_seconds', 'p99')(samples) },
  { title: 'Refused frames per second', read: rate('realtime_frames_refused_total') }
]

const show = (value) => value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)
const times = []
const panels = FIGURES.map(({ title, read }) => {
  const term = document.createElement('dt')
  const figure = document.createElement('dd')
  term.textContent = title
  figure.textContent = '–'
  const box = document.createElement('div')
  box.append(term, figure)
  document.getElementById('figures').append(box)

  const frame = document.createElement('figure')
  const caption = document.createElement('figcaption')
  caption.textContent = title
  frame.append(caption)
  document.getElementById('charts').append(frame)
  const values = []
  const width = () => Math.max(240, frame.clientWidth - 26)
  const plot = new uPlot({
    width: width(), height: 160, legend: { show: false }, cursor: { show: false }, scales: { y: { range: (_u, _min, max) => [0, Math.max(1, max * 1.1)] } },
    axes: [{}, { size: 50 }], series: [{}, { stroke: '#0f766e', width: 2, fill: '#0f766e22' }]
  }, [[], []], frame)
  addEventListener('resize', () => plot.setSize({ width: width(), height: 160 }))
  return { read, figure, values, plot }
})

function parse (text) {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^(\w+)(\{[^}]*\})? (\S+)$/.exec(line) ?? []
    return name === undefined ? [] : [{ name, labels, value: Number(value) }]
  })
}

async function look () {
  const problem = document.getElementById('problem')
  try {
    const response = await fetch('/metrics')
    if (!response.ok) throw new Error(`This host serves no metrics (${response.status}): set METRICS_PATH=/metrics.`)
    const samples = parse(await response.text())
    const now = Date.now()
    times.push(now / 1000)
    if (times.length > KEPT) times.shift()
    for (const { read, figure, values, plot } of panels) {
      const value = read(samples, now)
      values.push(value)
      if (values.length > KEPT) values.shift()
      figure.textContent = show(value)
      plot.setData([times, values])
    }
    problem.hidden = true
  } catch (err) {
    problem.textContent = err.message
    problem.hidden = false
  }
}
void look()
setInterval(look, EVERY)
