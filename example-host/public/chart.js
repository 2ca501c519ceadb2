// Lines over time, one for each node, in the colours of the page.
import uPlot from '/uPlot.esm.js'
import { make } from '/dom.js'

const HEIGHT = 190
const LEAST = 60 // seconds
const STEPS = [1, 2, 5].flatMap((step) => [0, 1, 2, 3, 4, 5].map((zeros) => step * 10 ** zeros)).sort((a, b) => a - b)
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const dark = matchMedia('(prefers-color-scheme: dark)')

export class Chart {
  #frame
  #canvas
  #legend
  #plot = null
  #names = ''
  #show

  /** `show` says a value to people. */
  constructor (parent, title, show) {
    this.#show = show
    this.#legend = make('span', { className: 'legend' })
    this.#canvas = make('div', { role: 'img' })
    this.#frame = make('figure', { className: 'panel' }, make('figcaption', {}, make('strong', { textContent: title }), this.#legend), this.#canvas)
    parent.append(this.#frame)
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(this.#canvas)
    dark.addEventListener('change', () => this.#plot?.redraw(false, true))
  }

  /** `series`: `{ name, color, values }`, the colour a number. */
  draw (times, series) {
    const names = series.map(({ name, color }) => `${name} ${color}`).join()
    if (names !== this.#names || this.#plot === null) this.#begin(series)
    this.#names = names
    this.#plot.setData([times, ...series.map(({ values }) => values)])
    this.#canvas.ariaLabel = `Now: ${series.map(({ name, values }) => `${name} ${this.#show(values.at(-1))}`).join(', ') || 'nothing yet'}`
  }

  #size = () => ({ width: Math.max(200, this.#canvas.clientWidth), height: HEIGHT })

  #begin (series) {
    this.#plot?.destroy()
    // A veil below one node's line would lie on another's, and give it a colour that no legend has.
    const fill = (color) => series.length === 1 ? { fill: () => `${css(`--c${color}`)}1c` } : {}
    const axis = { stroke: () => css('--soft'), font: '12px Inter, system-ui, sans-serif', grid: { stroke: () => css('--line'), width: 1 }, ticks: { show: false } }
    this.#plot = new uPlot({
      ...this.#size(),
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: (_plot, from, to) => [Math.min(from, to - LEAST), to] },
        y: { range: (_plot, _from, to) => [0, Math.max(4, to * 1.15)] }
      },
      axes: [
        { ...axis, size: 28, space: 80, values: (_plot, ticks) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' })) },
        { ...axis, size: 44, incrs: STEPS, values: (_plot, ticks) => ticks.map(this.#show) }
      ],
      series: [{}, ...series.map(({ color }) => ({ stroke: () => css(`--c${color}`), ...fill(color), width: 2, points: { show: false } }))]
    }, [[], ...series.map(() => [])], this.#canvas)
    this.#legend.replaceChildren(...series.map(({ name, color }) => make('span', {}, make('i', { className: `swatch c${color}` }), name)))
  }
}
