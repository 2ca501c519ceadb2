import type { Id } from './wire.js'

/** Whose credentials they are. `clubId` is not known where an older server was asked by REST alone. */
export interface Identity { userId: Id, clubId?: Id | undefined }

export const isSame = (one: Identity, other: Identity): boolean =>
  one.userId === other.userId && (one.clubId === undefined || other.clubId === undefined || one.clubId === other.clubId)
