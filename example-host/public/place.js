// The visitor's place in the history of the browser. On a small screen the back button closes a panel over the messages, then leaves the conversation for the
// list, as in any chat app; on a large one, where the list is always there, it leads to the conversation before.
import { hasIntegerIds } from '/dom.js'

const KEY = hasIntegerIds ? /^(group\..+|with:\d+)$/ : /^(group\.|with:)./
const ROOM = { view: 'room', side: '' }
const small = matchMedia('(max-width: 44rem)')
export const isSmall = () => small.matches

/** `show({ key, view, side })` is called whenever the place changes; `key` is '' in the list, `side` the panel over the messages. */
export function createPlace (first, show) {
  const here = () => history.state ?? ROOM
  const tell = () => show({ ...here(), key: keyOf(location.hash.slice(1)) })
  const go = (method, state, key) => {
    history[method](state, '', key === '' ? '/' : `/#${encodeURIComponent(key)}`)
    tell()
  }
  /** The conversation to open after the panel over the messages is closed. */
  let next = null
  function open (key) {
    const { view, side, isListBelow = false } = here()
    if (side !== '') {
      next = key
      history.back()
    } else if (view === 'list') go('pushState', { ...ROOM, isListBelow: true }, key)
    else if (isSmall()) go('replaceState', { ...ROOM, isListBelow }, key)
    else if (key === keyOf(location.hash.slice(1))) tell()
    else go('pushState', ROOM, key)
  }
  window.addEventListener('popstate', () => {
    const key = next
    next = null
    if (key === null) tell()
    else open(key)
  })

  const key = keyOf(location.hash.slice(1)) || first
  if (history.state === null) {
    if (isSmall()) history.replaceState({ view: 'list', side: '' }, '', '/')
    history[isSmall() ? 'pushState' : 'replaceState']({ ...ROOM, isListBelow: isSmall() }, '', `/#${encodeURIComponent(key)}`)
  }
  return {
    /** The conversation at the start. */
    key,
    open,
    tell,
    toList () {
      if (here().isListBelow) history.back()
      else go('replaceState', { view: 'list', side: '' }, '')
    },
    /** Shows the panel `side`, or closes it. */
    toggle (side) {
      const now = here()
      if (now.side !== '' && (side === '' || side === now.side)) history.back()
      else if (side !== '') history[now.side === '' ? 'pushState' : 'replaceState']({ ...now, side }, '')
      tell()
    }
  }
}

/** The conversation in an address, which may be invalid; '' without one. */
function keyOf (hash) {
  try {
    return KEY.exec(decodeURIComponent(hash))?.input ?? ''
  } catch {
    return ''
  }
}
