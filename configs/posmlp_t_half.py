"""PosMLP-T on half of ImageNet-1k, as in the paper's ablations: 20.9 M parameters, 5.18 GMACs; it prints 77.40 % top-1.

    python main.py --config=configs/posmlp_t_half.py

docs/recipes.md has what to add for each row of Tables 1 and 3 to 7, Table 10 and Figure 3.
"""

from configs.recipe import half_data_recipe


def get_config():
    return half_data_recipe("posmlp_t")
