// Where the visitor is, as the back button knows it. On a small screen it leaves what lies over the messages, then the conversation for the
// list, as in any chat app; on a large one, where the list is always there, it leads to the conversation before.
import { hasIntegerIds } from '/dom.js'

const KEY = hasIntegerIds ? /^(group\..+|with:\d+)$/ : /^(group\.|with:)./
const ROOM = { view: 'room', side: '' }
const small = matchMedia('(max-width: 44rem)')
export const isSmall = () => small.matches

/** `show({ key, view, side })` is called whenever the place changes; `key` is '' in the list, `side` what lies over the messages. */
export function createPlace (first, show) {
  const here = () => history.state ?? ROOM
  const tell = () => show({ ...here(), key: keyOf(location.hash.slice(1)) })
  const go = (method, state, key) => {
    history[method](state, '', key === '' ? '/' : `/#${encodeURIComponent(key)}`)
    tell()
  }
  /** What is opened when the visitor has left what lies over the messages. */
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
    /** Shows `side` over what is there, or takes it away. */
    toggle (side) {
      const now = here()
      if (now.side !== '' && (side === '' || side === now.side)) history.back()
      else if (side !== '') history[now.side === '' ? 'pushState' : 'replaceState']({ ...now, side }, '')
      tell()
    }
  }
}

/** The conversation in an address, which anybody can write; '' if there is none. */
function keyOf (hash) {
  try {
    return KEY.exec(decodeURIComponent(hash))?.input ?? ''
  } catch {
    return ''
  }
}
