import { Type } from '@sinclair/typebox'
import { errorResponses, TenantStats } from '../../lib/schemas.js'

export const rest = {
  'GET /stats': {
    tags: ['stats'],
    summary: 'Get the counts of the caller’s tenant, over all nodes',
    response: { ...errorResponses, 200: Type.Object({ data: TenantStats }) }
  }
} as const
