import { memo, useEffect, useRef, useState, type ReactElement } from 'react'
import { useConversation, useMembers, usePresence, useStatus, useTyping, type Conversation, type Message } from 'fastify-realtime-client/react'

type Names = (userId: number | undefined) => string

function Member ({ userId, name }: { userId: number, name: string | null }): ReactElement {
  const presence = usePresence(userId)
  return <span className='member'>{name} ({presence?.status ?? '…'}) </span>
}

/** A message is another object when it changes: rows that did not are not rendered again. */
const Row = memo(function Row ({ message, author, retry }: { message: Message, author: string, retry: Conversation['retry'] }) {
  return (
    <li className={message.status}>
      <b>{author}</b> <span className='text'>{message.isDeleted ? 'deleted' : message.message}</span>
      {message.status === 'failed' && <button onClick={() => { retry(message) }}>Try again</button>}
    </li>
  )
})

function Composer ({ send, record }: { send: (text: string) => void, record: () => void }): ReactElement {
  const [text, setText] = useState('')
  const submit = (): void => {
    if (text.trim()) send(text)
    setText('')
  }
  return <form action={submit}><input value={text} onChange={(event) => { setText(event.target.value); record() }} placeholder='Message' /><button>Send</button></form>
}

export function Room ({ channel }: { channel: string }): ReactElement {
  const { messages, status, error, hasMore, loadMore, send, retry, markRead } = useConversation(channel)
  const { members, count } = useMembers(channel)
  const { users: typing, record } = useTyping(channel)
  const { userId: me } = useStatus()
  const list = useRef<HTMLOListElement>(null)
  const newest = messages.at(-1)?.key
  useEffect(() => {
    list.current?.scrollTo(0, list.current.scrollHeight)
    if (document.hasFocus()) markRead()
  }, [newest, markRead])
  const nameOf: Names = (userId) => userId === me ? 'You' : members.find((one) => one.userId === userId)?.name ?? `User ${userId}`
  return (
    <main>
      <p id='members'>{count} here: {members.map((member) => <Member key={member.userId} {...member} />)}</p>
      {hasMore && <button id='more' disabled={status === 'loading'} onClick={() => { void loadMore() }}>Earlier messages</button>}
      {status === 'failed' && <p>{error?.message}</p>}
      <ol ref={list}>{messages.map((message) => <Row key={message.key} message={message} author={nameOf(message.userId)} retry={retry} />)}</ol>
      <p id='typing'>{typing.length > 0 && `${typing.map(nameOf).join(', ')} typing…`}</p>
      <Composer send={send} record={record} />
    </main>
  )
}
