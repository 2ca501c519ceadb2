interface World { baseUrl: string, tokens: string[], channel: string }
export declare function scenario (createClient: (options: never) => unknown, world: World, options?: object): Promise<string>
