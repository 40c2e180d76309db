{#- A row's features as Array(Tuple(feature_name, kind, number, text)), and with them the score and the
    prediction, which are binned like features. Kinds: 1 number, 2 string, 3 boolean, 4 null,
    5 no scalar, or no number where one belongs. `predicted_class` is text, '' where there is none. An
    output that a row lacks is no entry, like a feature that it lacks. -#}
{% macro feature_entries(task, predicted_class) -%}
    cast(
        arrayConcat(
            arrayMap(
                (name, number) -> (name, 1, number, ''),
                mapKeys(number_features), mapValues(number_features)
            ),
            arrayMap(
                (name, text) -> (name, 2, 0., text),
                mapKeys(string_features), mapValues(string_features)
            ),
            arrayMap(
                (name, is_true) -> (name, 3, 0., if(is_true, 'true', 'false')),
                mapKeys(boolean_features), mapValues(boolean_features)
            ),
            arrayMap(name -> (name, 4, 0., ''), null_features),
            arrayMap(
                name -> (name, 5, 0., ''),
                arrayFilter(
                    name -> name != '__prediction__'
                    or {{ task }} = 'regression' or {{ predicted_class }} = '',
                    invalid_features
                )
            ),
            multiIf(
                {{ task }} = 'regression' and predicted_value is not null,
                [('__prediction__', 1, assumeNotNull(predicted_value), '')],
                {{ task }} != 'regression' and {{ predicted_class }} != '',
                [('__prediction__', 2, 0., {{ predicted_class }})],
                []
            ),
            if(
                {{ task }} != 'regression' and score is not null,
                [('__score__', 1, assumeNotNull(score), '')],
                []
            )
        ),
        'Array(Tuple(feature_name LowCardinality(String), kind UInt8, number Float64, text String))'
    )
{%- endmacro %}
