// What the first module says when the rest, with every other word, cannot be loaded.

const BROKEN = {
    en: "The console page could not be loaded",
    de: "Die Konsolenseite konnte nicht geladen werden",
    es: "No se pudo cargar la página de la consola",
    fr: "La page de la console n’a pas pu être chargée",
    ja: "コンソールページを読み込めませんでした",
};

/** In the first of *languages* that has it, else in English. */
export const broken = (languages) =>
    languages.map((tag) => BROKEN[tag.toLowerCase().split("-")[0]]).find(Boolean) ?? BROKEN.en;
