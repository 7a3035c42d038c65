// The list of families. It is explicit: a file of a static library that nothing refers to is
// dropped by the linker, and its records with it.
#include "ops/rules.h"

namespace adjoint {

void register_elementwise_ops();
void register_special_ops();
void register_comparison_ops();
void register_reduction_ops();
void register_shape_ops();
void register_indexing_ops();
void register_creation_ops();
void register_linalg_ops();
void register_random_ops();
void register_random_variates();
void register_sort_ops();
void register_arrange_ops();
void register_statistics_ops();
void register_order_statistics_ops();
void register_nan_ops();
void register_running_ops();
void register_entries_ops();
void register_contract_ops();
void register_pieces_ops();
void register_names_ops();
void register_binning_ops();
void register_search_ops();
void register_call_ops();
void register_number_ops();
void register_check_ops();

void register_builtin_ops() {
  register_elementwise_ops();
  register_special_ops();
  register_comparison_ops();
  register_reduction_ops();
  register_shape_ops();
  register_indexing_ops();
  register_creation_ops();
  register_linalg_ops();
  register_random_ops();
  register_random_variates();
  register_sort_ops();
  register_arrange_ops();
  register_statistics_ops();
  register_order_statistics_ops();
  register_nan_ops();
  register_running_ops();
  register_entries_ops();
  register_contract_ops();
  register_pieces_ops();
  register_names_ops();
  register_binning_ops();
  register_search_ops();
  register_call_ops();
  register_number_ops();
  register_check_ops();
}

}  // namespace adjoint
