// Validates an AsyncAPI document with AsyncAPI's own parser: exit code 1 with errors or warnings, each on a line.
import { readFileSync } from 'node:fs'
import { DiagnosticSeverity } from '@stoplight/types'
import { Parser } from '@asyncapi/parser'

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'))
const faults = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning)
for (const { code, message, path } of faults) console.log(`${path.join('.')}: ${message} (${code})`)
if (document === undefined || faults.length > 0) process.exit(1)
console.log(`valid: ${document.channels().length} channels, ${document.operations().length} operations`)
