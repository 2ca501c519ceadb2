import { StrictMode, useState, type ReactElement } from 'react'
import { createRoot } from 'react-dom/client'
import { RealtimeProvider, useStatus, useUnread } from 'fastify-realtime-client/react'
import { Room } from './room.js'

interface User { userId: number, clubId: number, name: string }
const ROOMS = ['group.lobby', 'group.coffee']

/** The host's own login. Called again whenever a new token is needed. */
async function login (user: User): Promise<string> {
  const response = await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(user) })
  return (await response.json() as { token: string }).token
}

function Chat (): ReactElement {
  const { state, error } = useStatus()
  const { conversations } = useUnread()
  const [room, setRoom] = useState('group.lobby')
  const unread = (channel: string): number => conversations.find((one) => one.channel === channel)?.unread ?? 0
  return (
    <>
      <p id='state'>{state}{error && `: ${error.message}`}</p>
      <nav>
        {ROOMS.map((channel) => (
          <button key={channel} onClick={() => { setRoom(channel) }}>{channel} <b>{channel !== room && unread(channel) > 0 && unread(channel)}</b></button>
        ))}
      </nav>
      <Room key={room} channel={room} />
    </>
  )
}

function App (): ReactElement {
  const [user, setUser] = useState<User | null>(null)
  const enter = (form: FormData): void => { setUser({ userId: Number(form.get('userId')), clubId: 1, name: form.get('name') as string }) }
  if (!user) return <form action={enter}><input name='userId' placeholder='Number' /><input name='name' placeholder='Name' /><button>Enter</button></form>
  return (
    <RealtimeProvider key={user.userId} options={{ baseUrl: '/api/websocket', token: () => login(user) }}>
      <Chat />
    </RealtimeProvider>
  )
}

createRoot(document.getElementById('root')!).render(<StrictMode><App /></StrictMode>)
