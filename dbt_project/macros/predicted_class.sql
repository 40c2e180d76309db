{#- The class a row was predicted to be: for a binary model the threshold decides, since the model's own
    label may follow another one; '' where there is no prediction. -#}
{% macro predicted_class(task, threshold, positive_label) -%}
    multiIf(
        {{ task }} = 'binary' and score is not null,
        if(score >= {{ threshold }}, {{ positive_label }}, concat('not ', {{ positive_label }})),
        predicted_label
    )
{%- endmacro %}
