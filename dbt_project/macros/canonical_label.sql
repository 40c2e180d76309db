{#- A label's raw JSON as canonical text: a string as it is, a number as ClickHouse writes a Float64
    (1 and 1.0 are both '1'), true or false; empty for null, a container or nothing. -#}
{% macro canonical_label(raw) -%}
    multiIf(
        JSONType({{ raw }}) = 'String', JSONExtractString({{ raw }}),
        JSONType({{ raw }}) in ('Int64', 'UInt64', 'Double'), toString(toFloat64OrZero({{ raw }}) + 0),
        JSONType({{ raw }}) = 'Bool', {{ raw }},
        ''
    )
{%- endmacro %}
