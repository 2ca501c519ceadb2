/**
 * What the types of a host depend on, by declaration merging:
 * `declare module 'fastify-realtime' { interface Register { events: typeof events } }`.
 *
 * - `events`: what `defineEvents` gave; `publish` and `emit` are typed by it.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface Register {}
