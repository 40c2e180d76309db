{#- The typed columns of a prediction's output, from its raw JSON object. What should be a number and is none
    ("NaN", a text, a container) is null here, and `invalid_outputs` names it. -#}
{% macro typed_output_columns(prediction) -%}
    {%- set number = "('Double', 'Int64', 'UInt64')" -%}
    if(
        JSONType({{ prediction }}, 'score') in {{ number }},
        JSONExtract({{ prediction }}, 'score', 'Nullable(Float64)'), null
    ) as score,
    if(
        JSONType({{ prediction }}, 'value') in {{ number }},
        JSONExtract({{ prediction }}, 'value', 'Nullable(Float64)'), null
    ) as predicted_value,
    {{ canonical_label("JSONExtractRaw(" ~ prediction ~ ", 'label')") }} as predicted_label,
    JSONExtract({{ prediction }}, 'scores', 'Map(LowCardinality(String), Float64)') as class_scores,
    arrayConcat(
        if(JSONType({{ prediction }}, 'score') in ('Null', {{ number[1:] }}, [], ['__score__']),
        if(
            JSONType({{ prediction }}, 'value') in ('Null', {{ number[1:] }}
            and JSONType({{ prediction }}, 'label') not in ('Array', 'Object'),
            [], ['__prediction__']
        )
    ) as invalid_outputs
{%- endmacro %}
