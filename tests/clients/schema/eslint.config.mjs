// How the schema is linted: all of graphql-eslint's recommended rules for schemas and for Relay's conventions, and what is
// set otherwise with its reason.

import { fileURLToPath } from 'node:url';

import graphql from '@graphql-eslint/eslint-plugin';

const rules = {
  ...graphql.configs['flat/schema-recommended'].rules,
  ...graphql.configs['flat/schema-relay'].rules,

  // Everything is described: types, fields and values here, arguments by a test of the server, since this rule also
  // wants it of the arguments of @include and @skip.
  '@graphql-eslint/require-description': [
    'error',
    { types: true, rootField: true, FieldDefinition: true, EnumValueDefinition: true },
  ],
  '@graphql-eslint/require-nullable-fields-with-oneof': 'error',
  '@graphql-eslint/no-scalar-result-type-on-mutation': 'error',

  // The printer writes short descriptions in one line and long ones in a block; readers get the same text.
  '@graphql-eslint/description-style': 'off',
  // Only what is a Node has an identity: a payload, a command or an attempt is a part of something else.
  '@graphql-eslint/strict-id-in-types': 'off',
  // Short lists that end, such as tags and steps, are plain. The connection's own form is still checked.
  '@graphql-eslint/relay-edge-types': [
    'error',
    { withEdgeSuffix: true, shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
  ],
  // A connection that is only read from its begin takes `first` and `after`, and no more.
  '@graphql-eslint/relay-arguments': ['error', { includeBoth: false }],
};

export default [
  {
    files: ['**/*.graphql'],
    languageOptions: {
      parser: graphql.parser,
      parserOptions: {
        graphQLConfig: { schema: fileURLToPath(new URL('../../../schema.graphql', import.meta.url)) },
      },
    },
    plugins: { '@graphql-eslint': graphql },
    rules,
  },
];
