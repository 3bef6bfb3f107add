"""gMLP-S on half of ImageNet-1k: 19.4 M parameters, 4.39 GMACs; PosMLP's paper prints 72.14 % top-1 (Table 1).

    python main.py --config=configs/gmlp_s_half.py

docs/recipes.md has what to add for the rows of Table 1 with PoSGU, and for other shares of the data (Figure 1 f).
"""

from configs.recipe import half_data_recipe


def get_config():
    return half_data_recipe("gmlp_s")
