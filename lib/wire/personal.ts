interface Frame { payload: Buffer, about?: string | undefined, withoutSelf?: boolean | undefined }

/** An event as a user gets it: without the user in `data.joined`; null if the event is about the user alone. */
export function personal<F extends Frame> (frame: F, user: string | undefined): F | null {
  const { about, withoutSelf, payload } = frame
  if (withoutSelf !== true || user === undefined || about === undefined || !`,${about},`.includes(`,${user},`)) return frame
  const { event, data } = JSON.parse(payload.toString()) as { event: string, data: { joined?: Array<{ userId: unknown }> } }
  if (data.joined === undefined) return null
  const joined = data.joined.filter(({ userId }) => String(userId) !== user)
  return { ...frame, payload: Buffer.from(JSON.stringify({ event, data: { ...data, joined } })) }
}
