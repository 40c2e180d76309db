{{ config(materialized='view') }}

-- FINAL stands in views of this kind only: in a model that is unit-tested it would break the
-- test, and on a view it silently does nothing.
select * except (is_deleted)
from {{ ref('int_predictions') }} final
where is_deleted = 0
