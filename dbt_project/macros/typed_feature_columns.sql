{#- The typed columns of a row of features, from an array of (name, raw JSON scalar) and the names of invalid
    outputs. Of a key that stands twice the first counts. -#}
{% macro typed_feature_columns(pairs, invalid_outputs) -%}
    {%- set number = raw_feature_pairs(pairs, 'number') -%}
    {%- set string = raw_feature_pairs(pairs, 'string') -%}
    {%- set boolean = raw_feature_pairs(pairs, 'boolean') -%}
    cast(
        ({{ number }}.1, arrayMap(raw -> toFloat64OrZero(raw) + 0, {{ number }}.2)),
        'Map(LowCardinality(String), Float64)'
    ) as number_features,
    cast(
        ({{ string }}.1, arrayMap(raw -> JSONExtractString(raw), {{ string }}.2)),
        'Map(LowCardinality(String), String)'
    ) as string_features,
    cast(
        ({{ boolean }}.1, arrayMap(raw -> raw = 'true', {{ boolean }}.2)),
        'Map(LowCardinality(String), UInt8)'
    ) as boolean_features,
    cast({{ raw_feature_pairs(pairs, 'null') }}.1, 'Array(LowCardinality(String))') as null_features,
    cast(
        arrayConcat({{ raw_feature_pairs(pairs, 'composite') }}.1, {{ invalid_outputs }}),
        'Array(LowCardinality(String))'
    ) as invalid_features
{%- endmacro %}
