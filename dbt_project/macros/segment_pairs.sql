{#- The (segment_key, segment_value) pairs that a row counts in: ('all', 'all') and one per declared
    set of keys. A `|` inside a value is escaped, so that no two pairs of values share a name. -#}
{% macro segment_pairs(segments, key_sets) -%}
    arrayConcat(
        [('all', 'all')],
        arrayMap(
            keys -> (
                arrayStringConcat(keys, '|'),
                arrayStringConcat(
                    arrayMap(
                        key -> if(
                            mapContains({{ segments }}, key),
                            replaceAll({{ segments }}[key], '|', '\\|'),
                            '__missing__'
                        ),
                        keys
                    ),
                    '|'
                )
            ),
            {{ key_sets }}
        )
    )
{%- endmacro %}
