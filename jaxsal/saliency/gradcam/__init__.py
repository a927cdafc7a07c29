"""What heat maps are computed from: derivatives at a layer, and the weights made of them.

`windows` goes through the windows that reach a domain (`parts`, which also says which domains share
a pull-back); `window` computes the maps of one window from derivatives of the network above the
layer (`upper_network`) and from those of higher order (`diagonals`). `alpha` holds Eq. 7, `weights`
the other ones of Eqs. 4-10 and what the family's other methods put in their place; `maps` brings
their results to the image's grid, and `sizes` says how much goes at once.
"""
